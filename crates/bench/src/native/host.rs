//! The computer, the clock and the process.

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

use crate::record::Host;

/// The computer.
pub(super) fn host() -> Host {
    let kinds = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(MemoryRefreshKind::everything());
    let system = System::new_with_specifics(kinds);
    let brand = system.cpus().first().map_or("unknown CPU", |c| c.brand().trim());
    Host {
        os: System::long_os_version().unwrap_or_else(|| std::env::consts::OS.to_owned()),
        cpu_info: format!("{brand}, {} threads", system.cpus().len()),
        ram_bytes: Some(system.total_memory()),
    }
}

/// Bytes of memory that nobody uses.
pub(super) fn free_memory() -> u64 {
    System::new_with_specifics(RefreshKind::nothing().with_memory(MemoryRefreshKind::everything())).available_memory()
}

/// Bytes that this process holds.
pub(super) fn resident() -> Option<u64> {
    let id = sysinfo::get_current_pid().ok()?;
    let mut system = System::new();
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[id]),
        true,
        ProcessRefreshKind::nothing().with_memory(),
    );
    system.process(id).map(|p| p.memory())
}

/// Now, ISO 8601 in UTC.
pub(super) fn now() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_known() {
        let host = host();
        assert!(host.ram_bytes > Some(1 << 20) && !host.os.is_empty(), "{host:?}");
        assert!(resident() > Some(1 << 16));
    }
}
