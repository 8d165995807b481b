//! Bounds what is in flight, in bytes: a permit is taken before data is made and travels with it until it is gone.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

/// How often the process's and the machine's memory is looked at.
const MEMORY_LOOK_EVERY: Duration = Duration::from_millis(250);
/// Memory that may be in use before the machine counts as hot.
const AVAILABLE_SHARE_MIN: u64 = 20;
/// The limit when none is given, at most.
const DEFAULT_LIMIT_MAX: u64 = 16 << 30;

/// A number of bytes that may be in flight at once.
#[derive(Debug)]
pub struct Budget {
    max: u64,
    used: Mutex<u64>,
    freed: Condvar,
    gate: Option<MemoryGate>,
}

/// A share of a budget; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    /// Up to `max` bytes; with a gate it also waits while memory runs hot.
    pub fn new(max: u64, gate: Option<MemoryGate>) -> Arc<Self> {
        Arc::new(Self { max, used: Mutex::new(0), freed: Condvar::new(), gate })
    }

    /// Waits until `bytes` are free. When nothing is in flight it never waits: one piece of work may always proceed.
    pub fn take(self: &Arc<Self>, bytes: u64) -> Permit {
        let mut used = self.lock();
        while *used > 0 && (*used + bytes > self.max || self.gate.as_ref().is_some_and(MemoryGate::is_hot)) {
            let (guard, _) = self.freed.wait_timeout(used, MEMORY_LOOK_EVERY).unwrap_or_else(PoisonError::into_inner);
            used = guard;
        }
        *used += bytes;
        Permit { budget: Arc::clone(self), bytes }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.budget.lock() -= self.bytes;
        self.budget.freed.notify_all();
    }
}

/// Tells when the process or the machine has little memory left.
#[derive(Debug)]
pub struct MemoryGate {
    limit: u64,
    looked: Mutex<Look>,
}

#[derive(Debug)]
struct Look {
    system: System,
    at: Instant,
    is_hot: bool,
}

impl MemoryGate {
    /// Hot when the process uses more than `limit` bytes (by default the smaller of 16 GiB and half the machine), or
    /// when less than 5 % of the machine's memory is available.
    /// `None` where the system does not tell.
    pub fn new(limit: Option<u64>) -> Option<Self> {
        let wanted = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(wanted).ok()?;
        let limit = limit.unwrap_or_else(|| DEFAULT_LIMIT_MAX.min(system.total_memory() / 2));
        let looked = Mutex::new(Look { system, at: Instant::now(), is_hot: false });
        Some(Self { limit, looked })
    }

    fn is_hot(&self) -> bool {
        let mut look = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if look.at.elapsed() < MEMORY_LOOK_EVERY {
            return look.is_hot;
        }
        look.at = Instant::now();
        look.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let me = Pid::from_u32(std::process::id());
        look.system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[me]),
            false,
            ProcessRefreshKind::nothing().with_memory(),
        );
        let rss = look.system.process(me).map_or(0, sysinfo::Process::memory);
        let scarce = look.system.available_memory() < look.system.total_memory() / AVAILABLE_SHARE_MIN;
        look.is_hot = rss > self.limit || scarce;
        look.is_hot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_piece_of_work_proceeds_whatever_the_bounds() {
        let budget = Budget::new(10, MemoryGate::new(Some(0)));
        drop(budget.take(1_000_000));
        let _one = budget.take(1_000_000);
        assert_eq!(*budget.lock(), 1_000_000);
    }

    #[test]
    fn a_waiting_taker_goes_on_when_a_permit_is_dropped() {
        let budget = Budget::new(10, None);
        let first = budget.take(8);
        let other = Arc::clone(&budget);
        let waiter = std::thread::spawn(move || other.take(8).bytes);
        drop(first);
        assert_eq!(waiter.join().unwrap(), 8);
        assert_eq!(*budget.lock(), 0);
    }
}
