//! Threads that each take their share of the work through whole layers.
//!
//! LibTorch's own threads split one operation at a time: large products gain from that, while every norm, activation and copy
//! between them waits for the slowest thread, or is too small to split. A crew splits the tokens instead, and lets each thread
//! compute its own from end to end, one thread per operation. What several shares add to is summed in the order of the shares, so a
//! number of threads has one result.

use rayon::ThreadPool;
use rayon::prelude::*;
use tch::{Kind, Tensor, no_grad};

use crate::error::{Error, Result};

/// As many threads as LibTorch was given; on a GPU, where operations wait for nothing, the caller's alone.
pub(crate) struct Crew {
    pool: Option<ThreadPool>,
    threads: usize,
}

impl Crew {
    pub(crate) fn new(device: tch::Device) -> Result<Self> {
        let threads = if device.is_cuda() { 1 } else { usize::try_from(tch::get_num_threads()).unwrap_or(1) };
        let pool = (threads > 1).then(|| {
            let name = |index| format!("sami-torch {index}");
            rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build()
        });
        let pool = pool.transpose().map_err(|error| Error::Threads { threads, reason: error.to_string() })?;
        Ok(Self { pool, threads })
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Applies `work`, without gradients, to every item; the results are in the order of the items. Threads beyond the number of
    /// items work inside operations.
    pub(crate) fn map<T: Send, R: Send>(
        &self,
        items: Vec<T>,
        work: impl Fn(T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let work = |item| no_grad(|| work(item));
        let Some(pool) = self.pool.as_ref().filter(|_| items.len() > 1) else {
            return items.into_iter().map(work).collect();
        };
        let inside = i32::try_from(self.threads / items.len()).unwrap_or(1).max(1);
        let outside = tch::get_num_threads();
        let results: Vec<Result<R>> = pool.install(|| {
            let items = items.into_par_iter().with_max_len(1);
            items
                .map(|item| {
                    if tch::get_num_threads() != inside {
                        tch::set_num_threads(inside);
                    }
                    work(item)
                })
                .collect()
        });
        // The number belongs to a thread; but the last one that any thread set is what new threads begin with.
        tch::set_num_threads(outside);
        results.into_iter().collect()
    }

    /// Runs of 0..`length`, one for each thread but none shorter than `least`.
    pub(crate) fn runs(&self, length: i64, least: i64) -> Vec<(i64, i64)> {
        let size = (length + self.threads as i64 - 1) / self.threads as i64;
        let size = size.max(least).max(1);
        (0..length).step_by(size as usize).map(|start| (start, size.min(length - start))).collect()
    }

    /// The matrix in another kind of numbers; itself where it has that kind already.
    pub(crate) fn converted(&self, matrix: &Tensor, kind: Kind) -> Result<Tensor> {
        let matrix = matrix.f_detach()?;
        if matrix.kind() == kind {
            return Ok(matrix);
        }
        let converted = Tensor::f_empty(matrix.size(), (kind, matrix.device()))?;
        let part = |t: &Tensor, (start, length)| t.f_narrow(0, start, length);
        let parts = self.runs(matrix.size()[0], 64).into_iter();
        let parts = parts.map(|run| Ok((part(&converted, run)?, part(&matrix, run)?)));
        self.map(parts.collect::<Result<_>>()?, |(mut to, from)| Ok(to.f_copy_(&from)?))?;
        Ok(converted)
    }
}

/// Deals things of these sizes into at most `lots` lots of about the same total: the largest first, each to the lot that has least.
/// Every lot has something, in ascending order.
pub(crate) fn deal(sizes: &[usize], lots: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(sizes[index]), index));
    let mut dealt: Vec<(usize, Vec<usize>)> = vec![(0, Vec::new()); lots.min(sizes.len())];
    for index in order {
        // Empty lots first, lest things without size gather in one.
        let least = dealt.iter_mut().min_by_key(|(total, lot)| (!lot.is_empty(), *total));
        if let Some((total, lot)) = least {
            *total += sizes[index];
            lot.push(index);
        }
    }
    let mut lots: Vec<Vec<usize>> = dealt.into_iter().map(|(_, lot)| lot).collect();
    lots.iter_mut().for_each(|lot| lot.sort_unstable());
    lots.sort();
    lots
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn results_come_in_the_order_of_the_items_and_errors_come_out() {
        let crew =
            Crew { pool: Some(rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap()), threads: 3 };
        let doubled = crew.map((0..100).collect(), |i: i64| Ok(2 * i)).unwrap();
        assert_eq!(doubled, (0..100).map(|i| 2 * i).collect::<Vec<_>>());
        let failed = crew.map((0..100).collect(), |i: i64| match i {
            70 => Err(Error::NoTokens { what: "70".into() }),
            i => Ok(i),
        });
        assert!(matches!(failed, Err(Error::NoTokens { what }) if what == "70"));
    }

    #[test]
    fn a_thread_keeps_its_own_number_of_threads_and_work_has_no_gradients() {
        let before = tch::get_num_threads();
        let crew =
            Crew { pool: Some(rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap()), threads: 4 };
        let seen = crew
            .map(vec![(), ()], |()| {
                let x = Tensor::from_slice(&[1f32]).set_requires_grad(true);
                Ok((tch::get_num_threads(), (&x * 2.0).requires_grad()))
            })
            .unwrap();
        assert_eq!(seen, [(2, false), (2, false)]);
        assert_eq!(tch::get_num_threads(), before);
    }

    #[test]
    fn converting_in_parts_is_converting() {
        let crew =
            Crew { pool: Some(rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap()), threads: 3 };
        let x =
            Tensor::arange(1000 * 7, (Kind::Float, tch::Device::Cpu)).view([1000, 7]).to_kind(Kind::BFloat16);
        assert!(crew.converted(&x, Kind::Float).unwrap().equal(&x.to_kind(Kind::Float)));
    }

    proptest! {
        #[test]
        fn everything_is_dealt_once_and_no_lot_exceeds_its_part_by_more_than_the_largest(
            sizes in prop::collection::vec(0usize..50, 0..40),
            lots in 1usize..9,
        ) {
            let dealt = deal(&sizes, lots);
            prop_assert_eq!(dealt.len(), lots.min(sizes.len()));
            prop_assert!(dealt.iter().all(|lot| !lot.is_empty() && lot.is_sorted()));
            let mut all: Vec<usize> = dealt.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..sizes.len()).collect::<Vec<_>>());
            let (sum, largest) = (sizes.iter().sum::<usize>(), sizes.iter().max().copied().unwrap_or(0));
            for lot in &dealt {
                let total: usize = lot.iter().map(|&index| sizes[index]).sum();
                prop_assert!(total * lots <= sum + lots * largest);
            }
        }
    }
}
