//! Servers that violate the standard.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Compared with curl 7.88 and with the rules of browsers. Cases that curl refuses and browsers accept are marked.
#[tokio::test]
async fn what_curl_gets_from_an_untidy_server_we_get() {
    let length = "Content-Length: 7";
    let chunks = "7\r\npicture\r\n0\r\n\r\n";
    let cases = [
        raw(&[OK, "PHP Warning:  Undefined variable $x in /a.php on line 3", length], "picture", Then::Stall),
        // Browsers only.
        raw(&[OK, "<br />", "<b>Warning</b> in <b>/a.php</b>", length], "picture", Then::Stall),
        raw(&[OK, "X-A: b", "\tfolded", length], "picture", Then::Stall),
        raw(&[OK, ": nameless", "X\u{1}Y: z", length], "picture", Then::Stall),
        raw(&[OK, "Content-Length : 7"], "picture", Then::Stall),
        raw(&["HTTP/1.1 200", "content-length:7"], "picture", Then::Stall),
        raw(&["HTTP/1.1  200 OK", length], "picture", Then::Stall),
        raw(&["HTTP/1.0 200 OK"], "picture", Then::Close),
        raw(&["HTTP/1.0 200 OK", "Transfer-Encoding: chunked"], chunks, Then::Close),
        raw(&[OK, length, length], "picture", Then::Stall),
        raw(&[OK, "Content-Length: 7, 7"], "picture", Then::Stall),
        raw(&[OK, "Content-Length: 3", length], "picture", Then::Stall),
        // Browsers, and in part curl: it takes the last length.
        raw(&[OK, length, "Content-Length: 3"], "picture", Then::Stall),
        raw(&[OK, "Content-Length: 99999999999999999999999"], "picture", Then::Close),
        // Browsers only.
        raw(&[OK, "Content-Length: -1"], "picture", Then::Close),
        raw(&[OK, "Content-Length: 9", "Transfer-Encoding: chunked"], chunks, Then::Stall),
        raw(&[OK, "Transfer-Encoding: chunked"], "3\npic\n4 ;x\nture\n0\n\n", Then::Stall),
        raw(&[OK, "Transfer-Encoding: Chunked, chunked"], "7\r\npicture\r\n0\r\nX-Trailer: 1\r\n\r\n", Then::Stall),
        raw(&[OK, length], "picture and more than was announced", Then::Stall),
        raw(&["HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK", length], "picture", Then::Stall),
        raw(&["HTTP/1.1 206 Partial Content", "Content-Range: bytes 0-6/7", length], "picture", Then::Stall),
        raw(&["HTTP/1.1 206 Partial Content", length], "picture", Then::Stall),
        Reply {
            bytes: b"HTTP/1.1 200 D\xe9j\xe0 vu\nX: caf\xe9\nContent-Length: 7\n\npicture".to_vec(),
            then: Then::Stall,
        },
        raw(&[OK, &["X-A: b"; 500].join("\r\n"), length], "picture", Then::Stall),
    ];
    for answer in cases {
        let shown = String::from_utf8_lossy(&answer.bytes[..answer.bytes.len().min(100)]).into_owned();
        let found = get(&settings(), &always(answer).await.url("/a.jpg")).await;
        let found = found.unwrap_or_else(|error| panic!("{shown:?}: {}", error.message));
        assert_eq!(&found.bytes[..], b"picture", "{shown:?}");
    }
}

/// Answers two requests per connection, and closes it when the third one comes.
#[tokio::test]
async fn a_kept_connection_that_the_server_closes_costs_no_attempt() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a.jpg", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            for answers in 0..3 {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                if answers < 2 {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npicture").await.unwrap();
                }
            }
        }
    });
    let fetcher = fetcher(&settings(), 1);
    for _ in 0..6 {
        let deadline = &mut Deadline::after(Duration::from_secs(20));
        assert!(matches!(fetcher.fetch(&url, None, deadline).await, Ok(Answer::Fetched(_))));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3, "connections are kept, answers tidied or not");
    server.abort();
}

/// Neither the claimed type nor an unrequested packing changes the result: the bytes decide what the file is, and are
/// counted after unpacking.
#[tokio::test]
async fn claimed_types_and_codings_are_not_believed() {
    let typed = always(reply("200 OK", &["Content-Type: text/html"], "picture")).await;
    assert_eq!(&get(&settings(), &typed.url("/")).await.unwrap().bytes[..], b"picture");
    for encoding in ["gzip", "none", "UTF-8", "Identity", "binary", "", "gzip, utf-8", "x-gzip", "a\u{1}b"] {
        let server = always(reply("200 OK", &[&format!("Content-Encoding: {encoding}")], "picture")).await;
        assert_eq!(&get(&settings(), &server.url("/")).await.unwrap().bytes[..], b"picture", "{encoding}");
    }
    let (picture, bomb) = (gzip(&b"picture".repeat(100)), gzip(&vec![0; 1_000_000]));
    for head in ["Content-Encoding: gzip", "Content-Encoding: X-GZIP", "X-A: b", "Transfer-Encoding: gzip"] {
        for (packed, expected) in [(&picture, Ok(b"picture".repeat(100))), (&bomb, Err(MediaReason::TooLarge))] {
            let mut answer = raw(&[OK, head, &format!("Content-Length: {}", packed.len())], "", Then::Stall);
            answer.bytes.extend_from_slice(packed);
            let found = get(&settings(), &always(answer).await.url("/")).await;
            assert_eq!(found.map(|found| found.bytes.to_vec()).map_err(|error| error.reason), expected, "{head}");
        }
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(content, flate2::Compression::default());
    std::io::Read::read_to_end(&mut encoder, &mut packed).unwrap();
    packed
}
