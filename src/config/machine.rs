//! Cores and memory that this process may use, according to the system and its container.

use std::fs;
use std::path::Path;

/// Assumed if neither container nor system reports the memory.
const MEMORY_BYTES_UNKNOWN: u64 = 2 * 1024 * 1024 * 1024;

/// Cores that this process may use: by its affinity and by the CPU quota of its control groups, of both versions (the
/// standard library reads them).
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Memory that this process may use, in bytes: the least of the machine's and of the limits of its control groups.
pub(super) fn memory_bytes() -> u64 {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let groups = limit_of_groups(&read("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    let machine = total_of_machine(&read("/proc/meminfo"));
    groups.into_iter().chain(machine).min().unwrap_or(MEMORY_BYTES_UNKNOWN)
}

/// The smallest `memory.max` (version 2) or `memory.limit_in_bytes` (version 1) of the groups in `/proc/self/cgroup`
/// and their parents. Within a container the path may be the host's, of which only the root is visible.
fn limit_of_groups(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        // Hierarchy, controllers, path.
        let mut parts = line.splitn(3, ':');
        let (controllers, path) = (parts.nth(1).unwrap_or_default(), parts.next().unwrap_or_default());
        let (folder, file) = if controllers.is_empty() {
            (root.to_path_buf(), "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            return Vec::new();
        };
        let inner = Path::new(path.trim_start_matches('/'));
        let places = inner.ancestors().map(|above| folder.join(above).join(file));
        // "max" is not a number, and version 1 reports almost 2^63 without a limit.
        places.filter_map(|place| fs::read_to_string(place).ok()?.trim().parse().ok()).collect()
    });
    limits.min()
}

/// `MemTotal` of `/proc/meminfo`, which is in KiB.
fn total_of_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_all_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let limit = |groups: &str| limit_of_groups(groups, root.path());
        assert_eq!(limit("0::/pod/worker\n"), None);
        write("pod/worker/memory.max", "max\n");
        write("pod/memory.max", "2147483648\n");
        assert_eq!(limit("0::/pod/worker\n"), Some(2_147_483_648));
        write("pod/worker/memory.max", "1000000\n");
        assert_eq!(limit("0::/pod/worker\n"), Some(1_000_000));
        // Version 1, and a container that sees its own group as the root.
        write("memory/memory.limit_in_bytes", "500000\n");
        assert_eq!(limit("5:cpu,cpuacct:/a\n4:memory:/docker/abc\n"), Some(500_000));
        assert_eq!(limit("5:cpu,cpuacct:/a\n"), None);
        assert_eq!(limit("nonsense"), None);
    }

    #[test]
    fn a_machine_has_memory() {
        assert_eq!(total_of_machine("MemFree: 1 kB\nMemTotal:       16384 kB\n"), Some(16_384 * 1024));
        assert_eq!(total_of_machine(""), None);
        assert!(memory_bytes() > 0 && cores() > 0);
    }
}
