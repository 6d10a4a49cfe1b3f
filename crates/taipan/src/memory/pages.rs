//! Large pages for what is read over and over.
//!
//! Here is the other `unsafe` of this crate; the first is in `weights/map.rs`.
#![allow(unsafe_code)]

/// Bytes of a large page.
const LARGE: usize = 2 << 20;

/// Asks the system for large pages for the room of a vector, where it waits to be asked, and before anything is written there. A
/// core then goes from page to page less often, at which it does not ask for lines ahead.
pub(crate) fn ask<T>(room: &Vec<T>) {
    let start = room.as_ptr() as usize;
    let (first, end) = (start.next_multiple_of(LARGE), (start + room.capacity() * size_of::<T>()) / LARGE * LARGE);
    if first < end {
        // SAFETY: all of the range is memory of this vector. The advice is on what the system puts behind it, not on what is in
        // it, which stays.
        let _ = unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::LARGE;
    use crate::memory::{reserve, reserve_weights};

    /// Whether large pages were asked for where an address is.
    fn asked(address: usize) -> bool {
        let maps = fs::read_to_string("/proc/self/smaps").expect("what this process has mapped");
        let mut inside = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let number = |text| usize::from_str_radix(text, 16).ok();
            if let Some((first, end)) = range.and_then(|(first, end)| number(first).zip(number(end))) {
                inside = (first..end).contains(&address);
            }
            if inside && line.starts_with("VmFlags:") {
                return line.split(' ').any(|flag| flag == "hg");
            }
        }
        panic!("nothing is mapped at {address:x}");
    }

    #[test]
    fn weights_are_in_large_pages_where_there_are_such() {
        let there_are = Path::new("/sys/kernel/mm/transparent_hugepage/enabled").exists();
        let weights = reserve_weights::<u8>(4 * LARGE, String::new).unwrap();
        let others = reserve::<u8>(4 * LARGE, String::new).unwrap();
        let middle = |room: &Vec<u8>| room.as_ptr() as usize + 2 * LARGE;
        assert_eq!(asked(middle(&weights)), there_are);
        assert!(!asked(middle(&others)));
    }
}
