//! Progress: bars on a terminal, plain lines elsewhere; both on standard error.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sami_driver::{Event, Observer, Stage};

use crate::output::say;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The first Ctrl-C (or SIGTERM) lets the step in progress finish; the second ends the process.
pub(crate) fn listen_for_interrupts() {
    let listening = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        say("finishing the work in progress; interrupt again to end at once");
    });
    if let Err(error) = listening {
        say(&format!("warning: interrupts end the process at once ({error})"));
    }
}

pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Plain lines come at most this often while a stage goes on.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Shows what a run does.
pub(crate) struct Progress {
    quiet: bool,
    terminal: bool,
    bar: Option<ProgressBar>,
    last_line: Instant,
    /// When the stage began, and how much of it was done then.
    begun: (Instant, usize),
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            quiet,
            terminal: !quiet && std::io::stderr().is_terminal(),
            bar: None,
            last_line: Instant::now(),
            begun: (Instant::now(), 0),
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None if self.quiet => {}
            None => say(text),
        }
    }

    /// A stage of `total` units begins, `done` of them finished earlier.
    pub(crate) fn begin(&mut self, stage: &str, done: usize, total: usize) {
        self.end();
        if self.terminal {
            let style = ProgressStyle::with_template(
                "  {prefix:<9} {bar:30} {pos}/{len}  {elapsed_precise}  left {eta_precise}  {msg}",
            );
            let bar = ProgressBar::new(total as u64).with_position(done as u64).with_prefix(stage.to_owned());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            self.bar = Some(bar);
        } else {
            self.line(&format!("  {stage}: {done} of {total}"));
        }
        self.last_line = Instant::now();
        self.begun = (Instant::now(), done);
    }

    /// `done` of `total` units are finished.
    pub(crate) fn advance(&mut self, stage: &str, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        } else if done == total || self.last_line.elapsed() >= PLAIN_EVERY {
            let (since, before) = self.begun;
            self.line(&format!(
                "  {stage}: {done} of {total}{}",
                pace(done - before, total - done, since.elapsed())
            ));
            self.last_line = Instant::now();
        }
    }

    /// The stage is over.
    pub(crate) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Units per second, and the time left at that rate, once there is something to tell.
fn pace(done: usize, left: usize, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if done == 0 || seconds < 1.0 {
        return String::new();
    }
    let rate = done as f64 / seconds;
    match left {
        0 => format!(", {rate:.2} a second"),
        _ => format!(", {rate:.2} a second, {} left", clock((left as f64 / rate) as u64)),
    }
}

/// Seconds as `h:mm:ss`.
fn clock(seconds: u64) -> String {
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

impl Observer for Progress {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::IterationBegun { iteration: 0, .. } => {
                self.end();
                self.line("base model");
            }
            Event::IterationBegun { iteration, iterations } => {
                self.end();
                self.line(&format!("iteration {iteration} of {iterations}"));
            }
            Event::StageBegun { stage, done, total } => self.begin(&stage.to_string(), done, total),
            // Without a bar, a step's own line says how far training is.
            Event::Progress { stage: Stage::Train, .. } if self.bar.is_none() => {}
            Event::Progress { stage, done, total } => {
                self.advance(&stage.to_string(), done, total);
                if stage != Stage::Train && done == total {
                    self.end();
                }
            }
            Event::Generated(report) => {
                let rejected: Vec<_> = report.rejected.iter().map(|(why, n)| format!("{why} {n}")).collect();
                let rejected =
                    if rejected.is_empty() { String::new() } else { format!(" (rejected: {})", rejected.join(", ")) };
                self.line(&format!("  {} pairs kept of {} sampled{rejected}", report.kept, report.sampled));
            }
            Event::Step(step) => self.line(&format!(
                "  step {:>3}  loss {:.4}  MI over constitutions {:+.4} nats  accuracy {:.3}/{:.3}  gradient {:.3}  {:.1} s",
                step.step, step.loss, step.mi.constitutions, step.accuracy_row, step.accuracy_col, step.grad_norm,
                step.seconds
            )),
            Event::Collapsed(report) => {
                self.end();
                say(&format!("warning: {report}"));
            }
            Event::Evaluated { iteration, summary } => {
                self.end();
                self.line(&format!("evaluation of π_{iteration}\n{summary}"));
            }
            Event::IterationFinished { checkpoint, .. } => {
                self.end();
                self.line(&format!("  checkpoint {}", checkpoint.display()));
            }
            _ => {}
        }
    }

    fn cancelled(&self) -> bool {
        interrupted()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_told_once_it_is_known() {
        assert_eq!(pace(0, 5, Duration::from_secs(9)), "");
        assert_eq!(pace(5, 5, Duration::from_millis(400)), "");
        assert_eq!(pace(10, 7250, Duration::from_secs(10)), ", 1.00 a second, 2:00:50 left");
        assert_eq!(pace(10, 0, Duration::from_secs(4)), ", 2.50 a second");
    }
}
