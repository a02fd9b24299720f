//! How many threads compute, and how those without work wait: settled before any library starts one.
//!
//! OpenMP, which LibTorch computes with, reads its environment while the program is loaded, before `main`. So the command
//! sets the variables and starts itself once more, as the same process. Idle threads then sleep: spinning ones take the core
//! from those that have work as soon as another program wants one too.

use std::env;

use crate::output::say;

const WAIT: &str = "OMP_WAIT_POLICY";
/// What else says how OpenMP waits; whoever sets it has decided.
const SPIN: &str = "GOMP_SPINCOUNT";
const OPENMP: &str = "OMP_NUM_THREADS";
/// Whether the library of matrix products may take fewer threads than it is given.
const DYNAMIC: &str = "MKL_DYNAMIC";
/// Pools that ask for their number elsewhere: LibTorch's matrix products, and whatever runs on rayon.
const OTHERS: [&str; 2] = ["MKL_NUM_THREADS", "RAYON_NUM_THREADS"];

/// Makes every pool have `threads` threads, or as many as `OMP_NUM_THREADS` says, or the libraries' own choice. Does not return
/// where that takes another start.
pub(crate) fn settle(threads: Option<usize>) {
    let wanted = variables(threads, |name| env::var(name).ok());
    if !wanted.is_empty() {
        start_again(&wanted);
    }
}

/// The variables that have to change.
fn variables(
    threads: Option<usize>,
    current: impl Fn(&str) -> Option<String>,
) -> Vec<(&'static str, String)> {
    let mut wanted = Vec::new();
    if current(WAIT).is_none() && current(SPIN).is_none() {
        wanted.push((WAIT, "PASSIVE".to_owned()));
    }
    // OpenMP takes a list, one number for each level of nesting.
    let given = || current(OPENMP)?.split(',').next()?.trim().parse().ok().filter(|&number| number > 0);
    let Some(threads) = threads.or_else(given) else { return wanted };
    // Otherwise LibTorch is told of no more threads than there are cores.
    if current(DYNAMIC).is_none() {
        wanted.push((DYNAMIC, "FALSE".to_owned()));
    }
    let mut set = |name| {
        let number = current(name).and_then(|value| value.trim().parse::<usize>().ok());
        if number != Some(threads) {
            wanted.push((name, threads.to_string()));
        }
    };
    set(OPENMP);
    OTHERS.into_iter().for_each(set);
    wanted
}

#[cfg(unix)]
fn start_again(variables: &[(&str, String)]) {
    use std::os::unix::process::CommandExt;

    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| "sami".into());
    let error = match env::current_exe() {
        Ok(program) => {
            let mut command = std::process::Command::new(program);
            command.arg0(name).args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
            command.exec()
        }
        Err(error) => error,
    };
    let asked: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    say(&format!("warning: threads are as the libraries choose ({error}); set {} yourself", asked.join(" ")));
}

#[cfg(not(unix))]
fn start_again(variables: &[(&str, String)]) {
    let asked: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    say(&format!("warning: threads are as the libraries choose; set {} yourself", asked.join(" ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(threads: Option<usize>, current: &[(&str, &str)]) -> Vec<String> {
        let value =
            |name: &str| current.iter().find(|(one, _)| *one == name).map(|(_, value)| (*value).to_owned());
        variables(threads, value).into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn every_pool_gets_the_number_and_a_second_start_changes_nothing() {
        let all = [
            "OMP_WAIT_POLICY=PASSIVE",
            "MKL_DYNAMIC=FALSE",
            "OMP_NUM_THREADS=3",
            "MKL_NUM_THREADS=3",
            "RAYON_NUM_THREADS=3",
        ];
        assert_eq!(changed(Some(3), &[]), all);
        assert_eq!(changed(Some(3), &[("OMP_NUM_THREADS", "8")]), all);
        assert_eq!(changed(None, &[]), ["OMP_WAIT_POLICY=PASSIVE"]);
        assert_eq!(changed(None, &[("OMP_NUM_THREADS", "3,1")]), all);
        assert_eq!(changed(None, &[("OMP_NUM_THREADS", "many")]), ["OMP_WAIT_POLICY=PASSIVE"]);
        let settled = all.map(|one| one.split_once('=').unwrap());
        assert!(changed(Some(3), &settled).is_empty());
        assert!(changed(None, &settled).is_empty());
    }

    #[test]
    fn whoever_says_how_threads_wait_is_heard() {
        assert!(changed(None, &[("OMP_WAIT_POLICY", "ACTIVE")]).is_empty());
        assert!(changed(None, &[("GOMP_SPINCOUNT", "0")]).is_empty());
    }
}
