//! Thousands of damaged pictures in a process of their own, whose memory is bounded: none may crash or hang it, and each
//! is pixels or an error with a reason.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clipstream_test_support::needs::{self, Need};
use serde_json::{Value, json};

use super::formats::{models, pictures, process};
use super::mutate::mutated;

/// How many files; `CLIPSTREAM_TEST_MUTATIONS=20000` for the full set.
const COUNT: &str = "CLIPSTREAM_TEST_MUTATIONS";
const COUNT_DEFAULT: u64 = 2_000;
/// The first seed; others look at other files.
const SEED: &str = "CLIPSTREAM_TEST_SEED";
/// Set for the process that does the work: where it notes what it works on.
const NOTES: &str = "CLIPSTREAM_TEST_MUTATIONS_NOTES";

const THREADS: usize = 2;
const PIXELS_MAX: u64 = 4_000_000;
/// Address space of the process. Beyond it allocations fail, and so does the process.
const ADDRESS_SPACE_KIB: u64 = 3 * 1024 * 1024;
/// What may be resident: two pictures of `PIXELS_MAX` in all their stages, and the fixtures.
const RESIDENT_KIB_MAX: u64 = 400 * 1024;
/// For one picture, on a machine that does other things too.
const PATIENCE_EACH: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pictures_are_pixels_or_reasons() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |n| n.parse().expect("a number"));
    let (count, seed) = (number(COUNT, COUNT_DEFAULT), number(SEED, 1));
    if let Ok(notes) = std::env::var(NOTES) {
        println!("{}", work(count, seed, Path::new(&notes)));
        return;
    }
    let notes = tempfile::tempdir().unwrap();
    let limit = format!("ulimit -v {ADDRESS_SPACE_KIB}");
    if !Command::new("sh").args(["-c", &limit]).stderr(Stdio::null()).status().expect("a shell").success() {
        needs::go_without(Need::AddressSpaceLimit, "damaged pictures are decoded without a bound of their memory");
    }
    let script = format!("{limit} 2>/dev/null; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(script)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "hostile::mutations::damaged_pictures_are_pixels_or_reasons", "--nocapture"])
        .env(NOTES, notes.path())
        // One heap for all threads: the address space is for pictures.
        .env("MALLOC_ARENA_MAX", "2")
        .stdin(Stdio::null());
    let output_at = notes.path().join("output");
    let output = std::fs::File::create(&output_at).unwrap();
    command.stdout(output.try_clone().unwrap()).stderr(output);
    let mut child = command.spawn().expect("a shell");
    let deadline = Instant::now() + Duration::from_secs(120) + Duration::from_millis(200) * count as u32;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let said = std::fs::read_to_string(&output_at).unwrap();
    let last: Vec<String> =
        (0..THREADS).filter_map(|n| std::fs::read_to_string(notes.path().join(format!("thread-{n}"))).ok()).collect();
    let tail = &said[said.len() - said.len().min(3000)..];
    assert!(status.is_some_and(|s| s.success()), "{status:?} while at {last:?}:\n{tail}");
    let report = said.lines().find_map(|line| serde_json::from_str::<Value>(line).ok()).expect("a report");
    println!("{report}");
    let get = |key: &str| report[key].as_u64().unwrap();
    assert_eq!(get("files"), count);
    assert_eq!(report["broken"], json!([]), "nothing panics outside of a decoder");
    assert_eq!(report["slow"], json!([]), "no picture takes longer than {PATIENCE_EACH:?}");
    // Otherwise the changes are too harsh or too mild.
    assert!(get("pixels") > count / 20 && get("refused") > count / 5, "{report}");
    match get("resident_kib") {
        0 => needs::go_without(Need::ResidentMemory, "what damaged pictures take is not measured"),
        resident => assert!(resident < RESIDENT_KIB_MAX, "{report}"),
    }
}

/// What the process reports of `count` files.
fn work(count: u64, seed: u64, notes: &Path) -> Value {
    let (files, models) = (pictures(), models());
    let next = AtomicU64::new(0);
    let (pixels, refused, panicked) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let (broken, slow) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let slowest_ms = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (files, models, next) = (&files, &models, &next);
            let (pixels, refused, panicked, broken, slow) = (&pixels, &refused, &panicked, &broken, &slow);
            let slowest_ms = &slowest_ms;
            let note = notes.join(format!("thread-{thread}"));
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        break;
                    }
                    let (name, bytes) = mutated(files, seed + n);
                    let what = format!("seed {} ({name}, {} bytes)", seed + n, bytes.len());
                    std::fs::write(&note, &what).unwrap();
                    let started = Instant::now();
                    let model = &models[n as usize % models.len()];
                    match catch_unwind(AssertUnwindSafe(|| process(&bytes, PIXELS_MAX, model))) {
                        Ok(Ok(_)) => {
                            pixels.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(Err(error)) => {
                            if error.to_string().len() > 400 {
                                broken.lock().unwrap().push(format!("{what}: {error:?}"));
                            }
                            panicked.fetch_add(usize::from(error.message.contains("gave up")), Ordering::Relaxed);
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => broken.lock().unwrap().push(what.clone()),
                    }
                    slowest_ms.fetch_max(started.elapsed().as_millis() as u64, Ordering::Relaxed);
                    if started.elapsed() > PATIENCE_EACH {
                        slow.lock().unwrap().push(what);
                    }
                }
            });
        }
    });
    json!({
        "files": count, "seed": seed, "pixels": pixels, "refused": refused, "panics_caught": panicked,
        "broken": *broken.lock().unwrap(), "slow": *slow.lock().unwrap(), "slowest_ms": slowest_ms,
        "resident_kib": resident_kib(),
    })
}

/// The most memory that this process had at once; 0 where the system does not say.
pub fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
