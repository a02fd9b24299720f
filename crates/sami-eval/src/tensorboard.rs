//! Metrics as TensorBoard event files.
//!
//! An event file is a sequence of records: the length (u64, little endian), a masked CRC-32C of it, the bytes, a masked CRC-32C of
//! them. The bytes are an `Event` message of Protocol Buffers, of which scalars need four fields; they are written by hand.

use std::io::{self, Write};

/// Scalars of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalars {
    /// Seconds since 1970; TensorBoard orders by it when asked to.
    pub wall_time: f64,
    /// The step on the horizontal axis.
    pub step: i64,
    /// Names and values.
    pub values: Vec<(String, f64)>,
}

/// Writes an event file: the version record, then one event for each moment.
///
/// # Errors
///
/// What the writer refuses.
pub fn write_events(writer: &mut dyn Write, events: &[Scalars]) -> io::Result<()> {
    let begun = events.first().map_or(0.0, |event| event.wall_time);
    let mut version = Vec::new();
    double(&mut version, 1, begun);
    bytes(&mut version, 3, b"brain.Event:2");
    record(writer, &version)?;
    for event in events {
        let mut summary = Vec::new();
        for (name, value) in &event.values {
            let mut entry = Vec::new();
            bytes(&mut entry, 1, name.as_bytes());
            // simple_value: a 32-bit float.
            tag(&mut entry, 2, 5);
            entry.extend_from_slice(&(*value as f32).to_le_bytes());
            bytes(&mut summary, 1, &entry);
        }
        let mut message = Vec::new();
        double(&mut message, 1, event.wall_time);
        tag(&mut message, 2, 0);
        varint(&mut message, event.step as u64);
        bytes(&mut message, 5, &summary);
        record(writer, &message)?;
    }
    Ok(())
}

fn record(writer: &mut dyn Write, data: &[u8]) -> io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    writer.write_all(&length)?;
    writer.write_all(&masked(&length).to_le_bytes())?;
    writer.write_all(data)?;
    writer.write_all(&masked(data).to_le_bytes())
}

/// CRC-32C, rotated and shifted so that checksums of data with checksums in it stay meaningful.
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn tag(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    tag(out, field, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    tag(out, field, 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What TensorBoard 2.21 (`EventFileWriter`, `Summary.Value(tag="train/loss", simple_value=0.25)`, step 300, wall time 2.5)
    /// writes; the script is `fixtures/report/check_tensorboard.py`.
    const FROM_TENSORBOARD: &str =
        "2100000000000000017becf609000000000000044010ac022a130a110a0a747261696e2f6c6f7373150000803e3cc9cac5";

    #[test]
    fn records_are_those_of_tensorboard() {
        let event = Scalars { wall_time: 2.5, step: 300, values: vec![("train/loss".into(), 0.25)] };
        let mut file = Vec::new();
        write_events(&mut file, &[event]).unwrap();
        let hex: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
        // After the version record, whose time TensorBoard takes from the clock.
        assert_eq!(&hex[hex.len() - FROM_TENSORBOARD.len()..], FROM_TENSORBOARD);
        // 8 length + 4 + (9 + 15) + 4: the version record.
        assert_eq!(hex.len() - FROM_TENSORBOARD.len(), 2 * 40);
    }

    #[test]
    fn numbers_above_seven_bits_take_several_bytes() {
        let mut out = Vec::new();
        varint(&mut out, 300);
        varint(&mut out, 5);
        assert_eq!(out, [0xac, 0x02, 0x05]);
    }
}
