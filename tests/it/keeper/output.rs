//! A job that prints without end: its signal is found, the keeper stays small and fast.
//!
//! `LOOKOUT_SOAK=1 cargo test --release --test it keep_output` prints a gigabyte and compares with
//! `cat`; without it 50 MB, and no comparison (an unoptimised build says nothing about speed).

use std::time::Duration;

use lookout::rundir::Event;
use tokio::process::Command;
use tokio::time::Instant;

use crate::keeper::harness::{Keeper, shell};

const MEGABYTE: u64 = 1024 * 1024;

/// Random letters without a line break, prepared as a file, so that what is measured is reading
/// and not making them.
fn script(source: &std::path::Path, megabytes: u64) -> String {
    let n_rounds = megabytes / 50;
    format!(
        "n=0; while [ $n -lt {n_rounds} ]; do cat {}; n=$((n+1)); done; printf 'Bulk processing completed.'",
        source.display()
    )
}

fn write_source(folder: &std::path::Path) -> std::path::PathBuf {
    let mut random = fastrand::Rng::with_seed(1);
    let block: Vec<u8> = (0..MEGABYTE).map(|_| random.alphanumeric() as u8).collect();
    let path = folder.join("letters");
    std::fs::write(&path, block.repeat(50)).unwrap();
    path
}

/// Highest resident memory so far, in bytes.
fn peak_memory(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[tokio::test]
async fn a_signal_at_the_very_end_of_huge_output_is_found_in_little_memory() {
    let is_soak = std::env::var_os("LOOKOUT_SOAK").is_some();
    let megabytes = if is_soak { 1000 } else { 50 };
    let folder = tempfile::tempdir().unwrap();
    let script = script(&write_source(folder.path()), megabytes);
    let keeper = Keeper::start(&shell(&format!("sleep 0.3; {script}")), &[]);
    let pid = keeper.pid();
    keeper.wait_for(|event| matches!(event, Event::JobStarted { .. })).await;
    let before = peak_memory(pid).unwrap();
    let peak = tokio::spawn(async move {
        let mut peak = 0;
        while let Some(now) = peak_memory(pid) {
            peak = now;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        peak
    });
    let kept = keeper.done().await;
    let growth = peak.await.unwrap().saturating_sub(before);
    assert!(kept.has_signal());
    let n_bytes = megabytes * MEGABYTE + 26;
    let offset = n_bytes - 26;
    assert!(kept.has(|event| matches!(event, Event::Signal { offset: at, .. } if *at == offset)));
    let ended = &kept.entries.last().unwrap().event;
    let Event::Ended { bytes, log_dropped_bytes } = ended else { panic!("{ended:?}") };
    assert_eq!(*bytes, n_bytes);
    // Head and tail are kept, save for the one endless word that stood across the head's end.
    let n_kept = bytes - log_dropped_bytes;
    assert!((120 * 1024..=128 * 1024).contains(&n_kept), "{n_kept}");
    let log = kept.directory.read_log().unwrap();
    assert!(log.tail.starts_with("[… ") && log.tail.ends_with("Bulk processing completed."));
    assert!(growth < 32 * MEGABYTE, "grew by {} KiB", growth / 1024);
    if is_soak {
        let took = kept.took().saturating_sub(Duration::from_millis(300));
        let cat = time_of_cat(&script).await;
        let share = cat.as_secs_f64() / took.as_secs_f64();
        println!("grew by {} KiB; {took:?} against {cat:?} of cat: {share:.2}", growth / 1024);
        assert!(share >= 0.8, "{took:?} against {cat:?}");
    }
}

/// The same job piped into `cat`.
async fn time_of_cat(script: &str) -> Duration {
    let began = Instant::now();
    let piped = format!("( {script} ) | cat > /dev/null");
    assert!(Command::new("sh").args(["-c", &piped]).status().await.unwrap().success());
    began.elapsed()
}
