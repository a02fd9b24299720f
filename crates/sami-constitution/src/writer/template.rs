//! The seed prompt: what a principle writer is asked first.

use std::fmt;
use std::path::Path;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};

use crate::error::{Error, Location};
use crate::plain_text::plain_text;
use crate::task::describe;
use crate::writer::WriterProblem;

const NAME: &str = "seed";
const VARIABLES: [&str; 3] = ["task", "principles", "variants"];
/// `variants` may be left out by a template that always asks for one wording.
const REQUIRED: [&str; 2] = ["task", "principles"];

/// A template of the seed prompt. Its variables: `task` (text: what the model is asked to do), `principles` (a list of
/// names) and `variants` (the number of wordings per side). An unknown variable is an error, never an empty text.
///
/// The default has the structure of the paper's seed prompt (section 5 and A.7), in our own words: the task, the names, a
/// request for definitions and antitheses, and a numbered format.
#[derive(Clone)]
pub struct SeedTemplate {
    environment: Environment<'static>,
    path: Option<std::path::PathBuf>,
    own: bool,
}

impl SeedTemplate {
    /// Reads a template file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and [`Error::Writer`] with the line.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::parse(Some(path), &std::fs::read_to_string(path).map_err(Error::io(path))?)
    }

    /// Reads a template's text.
    ///
    /// # Errors
    ///
    /// [`Error::Writer`] with the line.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        Self::parse(None, text)
    }

    fn parse(path: Option<&Path>, text: &str) -> Result<Self, Error> {
        let text = &*plain_text(text);
        let fail = |line, problem| Error::Writer { at: Location::new(path, Some(line)), problem };
        let syntax = |error: minijinja::Error| {
            fail(error.line().unwrap_or(1), WriterProblem::Template { message: describe(&error) })
        };
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.add_template_owned(NAME, text.to_owned()).map_err(syntax)?;
        let template = environment.get_template(NAME).map_err(syntax)?;
        let used = template.undeclared_variables(false);
        // The engine counts its own functions, such as range, as variables.
        let own: Vec<_> = environment.globals().map(|(name, _)| name).collect();
        let is_known = |name: &str| VARIABLES.contains(&name) || own.contains(&name);
        let mut unknown: Vec<_> = used.iter().filter(|name| !is_known(name)).collect();
        unknown.sort_unstable();
        if let Some(variable) = unknown.first() {
            let line = text.lines().position(|line| line.contains(variable.as_str())).unwrap_or(0) + 1;
            return Err(fail(line, WriterProblem::UnknownVariable { variable: (*variable).clone() }));
        }
        if let Some(variable) = REQUIRED.into_iter().find(|name| !used.contains(*name)) {
            return Err(fail(1, WriterProblem::MissingVariable { variable }));
        }
        let trial = Self { environment, path: path.map(Path::to_owned), own: true };
        trial.render("write", &["a".to_owned(), "b".to_owned()], 2)?;
        Ok(trial)
    }

    pub(super) fn render(&self, task: &str, principles: &[String], variants: usize) -> Result<String, Error> {
        let values = context! { task => task, principles => principles.to_vec(), variants => variants };
        let text = self.environment.get_template(NAME).and_then(|template| template.render(values));
        let text = text.map_err(|error| Error::Writer {
            at: Location::new(self.path.as_deref(), error.line()),
            problem: WriterProblem::Template { message: describe(&error) },
        })?;
        Ok(text.trim().to_owned())
    }

    /// Whether it is a template of the user's, whose format of answers is not known.
    pub(super) fn is_own(&self) -> bool {
        self.own
    }

    /// Where it comes from, for the record.
    pub(super) fn source(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None if self.own => "given as text".to_owned(),
            None => "built in".to_owned(),
        }
    }

    /// The built-in template.
    ///
    /// # Errors
    ///
    /// None, as a test shows: the text is part of the program.
    pub(super) fn built_in() -> Result<Self, Error> {
        Ok(Self { own: false, ..Self::from_text(include_str!("../defaults/principles.txt"))? })
    }
}

impl fmt::Debug for SeedTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SeedTemplate").field(&self.source()).finish()
    }
}
