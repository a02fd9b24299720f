//! Work that splits, with rayon or without.

/// Work in parts. How it is split never changes what comes out.
pub(crate) trait Task: Sized + Send {
    /// What can go wrong.
    type Error: Send;
    /// Number of parts it still splits into.
    fn parts(&self) -> usize;
    /// Two tasks with about half of the parts each, in order.
    fn split(self) -> (Self, Self);
    /// Does one part.
    fn run(self) -> Result<(), Self::Error>;
}

/// Does all parts, on all cores if `parallel` (and the feature `rayon` is on). The error is that of the first part that
/// has one.
pub(crate) fn run<T: Task>(task: T, parallel: bool) -> Result<(), T::Error> {
    if task.parts() <= 1 {
        return task.run();
    }
    let (first, second) = task.split();
    #[cfg(feature = "rayon")]
    if parallel {
        let (first, second) = rayon::join(|| run(first, true), || run(second, true));
        return first.and(second);
    }
    run(first, parallel).and_then(|()| run(second, parallel))
}

/// Number of threads that [`run`] may use.
pub(crate) fn threads() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    return 1;
}
