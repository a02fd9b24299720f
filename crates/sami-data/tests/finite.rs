//! Numbers in our files: what is finite comes back to the bit, what is not is never written.
#![allow(clippy::unwrap_used, reason = "helpers outside #[test] functions")]

use std::fs;

use proptest::prelude::*;
use sami_data::{DataError, JsonlAppender, MiFigures, StepMetrics, write_json, write_json_lines};

fn step(value: f64) -> StepMetrics {
    StepMetrics {
        iteration: 1,
        step: 1,
        loss: value,
        mi: MiFigures { constitutions: value, responses: value, two_sided: value },
        accuracy_row: value,
        accuracy_col: value,
        grad_norm: value,
        update_norm: value,
        update_kept: value,
        fraction_changed: value,
        kl: Some(value),
        lr_factor: value,
        queries: 1,
        tokens: 1,
        seconds: value,
        peak_memory: None,
    }
}

/// One way of making one figure another.
type Set = fn(&mut StepMetrics, f64);

const FIELDS: [(&str, Set); 13] = [
    ("loss", |step, x| step.loss = x),
    ("mi.constitutions", |step, x| step.mi.constitutions = x),
    ("mi.responses", |step, x| step.mi.responses = x),
    ("mi.two_sided", |step, x| step.mi.two_sided = x),
    ("accuracy_row", |step, x| step.accuracy_row = x),
    ("accuracy_col", |step, x| step.accuracy_col = x),
    ("grad_norm", |step, x| step.grad_norm = x),
    ("update_norm", |step, x| step.update_norm = x),
    ("update_kept", |step, x| step.update_kept = x),
    ("fraction_changed", |step, x| step.fraction_changed = x),
    ("kl", |step, x| step.kl = Some(x)),
    ("lr_factor", |step, x| step.lr_factor = x),
    ("seconds", |step, x| step.seconds = x),
];

#[test]
fn every_figure_of_a_step_is_checked_before_its_line_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.jsonl");
    let mut lines = JsonlAppender::open(&path).unwrap();
    lines.append(&step(0.5)).unwrap();
    let before = fs::read(&path).unwrap();
    for (field, set) in FIELDS {
        for (value, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
            let mut changed = step(0.5);
            set(&mut changed, value);
            let error = lines.append(&changed).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "{} cannot be written: {field} is {shown}, which is not a finite number",
                    path.display()
                )
            );
            assert_eq!(fs::read(&path).unwrap(), before);
        }
    }
    // And what follows is as if nothing had happened.
    lines.append(&step(0.25)).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
}

#[test]
fn files_that_are_whole_or_absent_stay_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("summary.json");
    write_json(&path, &step(1.0)).unwrap();
    let before = fs::read(&path).unwrap();
    let error = write_json(&path, &step(f64::NAN)).unwrap_err();
    assert!(matches!(error, DataError::NotFinite { .. }), "{error}");
    let error = write_json_lines(&path, &[step(1.0), step(f64::INFINITY)]).unwrap_err();
    assert!(error.to_string().contains("loss is inf"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file is left");
}

#[test]
fn null_is_read_as_a_number_that_was_not_finite() {
    let mut line = serde_json::to_value(step(0.5)).unwrap();
    line["grad_norm"] = serde_json::Value::Null;
    line["mi"]["constitutions"] = serde_json::Value::Null;
    let read: StepMetrics = serde_json::from_value(line.clone()).unwrap();
    assert!(read.grad_norm.is_nan() && read.mi.constitutions.is_nan() && read.loss == 0.5);
    // A figure that is absent is no figure that was not finite.
    line.as_object_mut().unwrap().remove("grad_norm");
    let error = serde_json::from_value::<StepMetrics>(line).unwrap_err();
    assert!(error.to_string().contains("missing field `grad_norm`"), "{error}");
}

proptest! {
    #[test]
    fn finite_numbers_come_back_to_the_bit(
        value in prop_oneof![
            any::<f64>().prop_filter("finite", |x| x.is_finite()),
            prop::sample::select(vec![-0.0, 1e308, f64::MAX, f64::MIN, 5e-324, f64::MIN_POSITIVE]),
        ]
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        JsonlAppender::open(&path).unwrap().append(&step(value)).unwrap();
        let read: StepMetrics = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for found in [read.loss, read.mi.two_sided, read.seconds, read.kl.unwrap()] {
            prop_assert_eq!(found.to_bits(), value.to_bits());
        }
    }
}
