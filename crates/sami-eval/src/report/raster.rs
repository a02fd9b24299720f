//! Charts as PNG.

use std::sync::Arc;

use resvg::{tiny_skia, usvg};
use thiserror::Error;

/// Latin and Greek, so that a PNG looks the same on a machine without fonts; see `assets/plot-font-license.txt`.
const FONT: &[u8] = include_bytes!("../../assets/plot.ttf");
/// Pixels per unit of the drawing: sharp on a dense screen and in print.
const SCALE: f32 = 2.0;

/// Why a drawing is no picture.
#[derive(Debug, Error)]
pub enum RasterError {
    /// The drawing is no SVG.
    #[error("the chart {file} cannot be read as SVG: {source}")]
    Svg {
        /// The chart's file name.
        file: String,
        /// What the reader said.
        source: usvg::Error,
    },
    /// It has no size, or one that memory cannot hold.
    #[error("the chart {file} has an impossible size")]
    Size {
        /// The chart's file name.
        file: String,
    },
    /// PNG cannot be written.
    #[error("the chart {file} cannot be written as PNG: {reason}")]
    Png {
        /// The chart's file name.
        file: String,
        /// What the writer said.
        reason: String,
    },
}

/// The PNG of an SVG drawing, whose chart's file name is for messages.
pub(crate) fn png(file: &str, svg: &str) -> Result<Vec<u8>, RasterError> {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(FONT.to_vec());
    fonts.set_sans_serif_family("Sami Plot");
    let options = usvg::Options {
        font_family: "Sami Plot".to_owned(),
        fontdb: Arc::new(fonts),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(svg, &options)
        .map_err(|source| RasterError::Svg { file: file.to_owned(), source })?;
    let size = tree.size();
    let pixels = |length: f32| (length * SCALE).ceil() as u32;
    let mut picture = tiny_skia::Pixmap::new(pixels(size.width()), pixels(size.height()))
        .ok_or_else(|| RasterError::Size { file: file.to_owned() })?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut picture.as_mut());
    picture
        .encode_png()
        .map_err(|error| RasterError::Png { file: file.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_drawn_without_any_font_of_the_machine() {
        let dark = |text: &str| {
            let svg = format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"60\" height=\"30\"><rect width=\"100%\" height=\"100%\" \
                 fill=\"#fff\"/><text x=\"5\" y=\"20\" font-family=\"'Sami Plot',sans-serif\">{text}</text></svg>"
            );
            let bytes = png("test", &svg).unwrap();
            let picture = tiny_skia::Pixmap::decode_png(&bytes).unwrap();
            assert_eq!((picture.width(), picture.height()), (120, 60));
            picture.pixels().iter().filter(|pixel| pixel.red() < 128).count()
        };
        assert_eq!(dark(""), 0);
        assert!(dark("η ≤ ½") > 50);
        assert!(matches!(png("x", "no drawing"), Err(RasterError::Svg { .. })));
    }
}
