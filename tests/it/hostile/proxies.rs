use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::worker_process::{clipstream, set};

/// Counts who comes. Ends with the process.
fn listener() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, came) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counted = came.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    (port, came)
}

/// A proxy would resolve names and connect by itself, where no policy of ours reaches: the environment's is not used.
#[test]
fn proxies_of_the_environment_are_not_a_way_around_the_policy() {
    let ((proxy, proxied), (server, served)) = (listener(), listener());
    let mut command = clipstream("embed");
    let proxy = format!("http://127.0.0.1:{proxy}");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, &proxy);
    }
    set(&mut command, &[("media.allow_hosts", &format!("localhost:{server}"))]);
    let urls = [
        format!("http://127.0.0.1:{server}/a.jpg"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        format!("http://localhost:{server}/a.jpg"),
    ];
    let output = command.arg("image").args(&urls).output().expect("the binary starts");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let errors: Vec<String> = stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["error"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(errors.len(), 3, "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(errors[0].contains("loopback") && errors[1].contains("metadata"), "{errors:?}");
    // The allowed one is asked for where it is, and hangs up.
    assert!(errors[2].contains("the connection broke"), "{errors:?}");
    assert_eq!((proxied.load(Ordering::SeqCst), served.load(Ordering::SeqCst) > 0), (0, true));
}
