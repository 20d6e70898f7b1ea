//! The default number of threads.

/// One thread for each physical core that this process may use.
///
/// The second hardware thread of a core shares its multipliers with the first.
pub fn physical_cores() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    allowed.min(num_cpus::get_physical()).max(1)
}
