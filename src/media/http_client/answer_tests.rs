use super::*;

/// What the client reads when the server sends `sent` in pieces of `step` bytes and closes.
fn tidied(sent: &[u8], step: usize) -> Result<String, Malformed> {
    let (mut tidier, mut read) = (Tidier::default(), Vec::new());
    tidier.sent();
    for piece in sent.chunks(step) {
        tidier.feed(piece)?;
        read.extend_from_slice(tidier.ready());
        tidier.take(tidier.ready().len());
    }
    tidier.end();
    read.extend_from_slice(tidier.ready());
    Ok(String::from_utf8_lossy(&read).into_owned())
}

/// The result must not depend on how the bytes are cut.
fn tidy(sent: &[u8]) -> Result<String, Malformed> {
    let whole = tidied(sent, sent.len().max(1));
    for step in [2, 3, 7] {
        let pieces = tidied(sent, step);
        // Our chunks are as large as the pieces of input.
        match (&whole, &pieces) {
            (Ok(whole), Ok(pieces)) if whole.contains("chunked") => assert_eq!(body(whole), body(pieces), "{step}"),
            _ => assert_eq!(whole, pieces, "{step}"),
        }
    }
    whole
}

/// The content of a chunked body, parsed by RFC 9112's strict grammar, which the output must follow.
fn body(answer: &str) -> (String, String, bool) {
    let (head, mut rest) = answer.split_once("\r\n\r\n").unwrap();
    let mut content = String::new();
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            assert_eq!(more, "\r\n");
            return (head.to_owned(), content, true);
        }
        content.push_str(&more[..size]);
        rest = more[size..].strip_prefix("\r\n").unwrap();
    }
    (head.to_owned(), content, false)
}

fn sized(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 -\r\n{fields}content-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn heads_are_read_as_curl_reads_them() {
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\npic", ""),
        ("HTTP/1.1 200 OK\r\nPHP Warning:  Undefined variable in /x.php on line 3\r\nContent-Length: 3\r\n\r\npic", ""),
        ("HTTP/1.1 200 OK\r\n<br />\r\nno header at all\r\n: nameless\r\nContent-Length: 3\r\n\r\npic", ""),
        (
            "HTTP/1.1 200 OK\r\nX: a\r\n  folded\r\nETag: \"a\r\n\t b\"\r\nContent-Length:\r\n 3\r\n\r\npic",
            "etag: \"a b\"\r\n",
        ),
        ("HTTP/1.1 200 OK\r\n junk that is folded\r\nContent-Length: 3\r\n\r\npic", ""),
        ("HTTP/1.1 200 OK\nContent-Length: 3\n\npic", ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\n\r\npic", ""),
        ("HTTP/1.1 200 OK\r\r\nContent-Length: 3\r\r\n\r\r\npic", ""),
        ("HTTP/1.1 200\r\nContent-Length: 3\r\n\r\npic", ""),
        ("HTTP/1.1  200OK\r\nContent-Length: 3\r\n\r\npic", ""),
        ("http/1.1\t200\r\ncontent-length : \t3 \t\r\n\r\npic", ""),
        ("HTTP/2 200\r\nContent-Length:3\r\n\r\npic", ""),
        ("\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\npic", ""),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\npic",
            "",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\nContent-Length: +3\r\n\r\npic", ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3 bytes\r\n\r\npic", ""),
        (
            "HTTP/1.1 200 OK\r\nX: a\0b\x01c\r\nLast-Modified: a\x01b\rc\r\nContent-Length: 3\r\n\r\npic",
            "last-modified: abc\r\n",
        ),
        // More than announced.
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\npicture", ""),
    ];
    for (sent, fields) in cases {
        assert_eq!(tidy(sent.as_bytes()), Ok(sized(fields, "pic")), "{sent:?}");
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 3\r\n\r\npic", "X-A: b\r\n".repeat(3000));
    assert_eq!(tidied(many.as_bytes(), 1000), Ok(sized("", "pic")));
}

#[test]
fn bodies_without_a_length_that_can_be_read_end_with_the_connection() {
    for length in [
        "",
        "Content-Length: -1\r\n",
        "Content-Length: \r\n",
        "Content-Length: unknown\r\n",
        "Content-Length: 99999999999999999999999\r\n",
    ] {
        let sent = format!("HTTP/1.1 200 OK\r\n{length}\r\npicture");
        let expected = "HTTP/1.1 200 -\r\nconnection: close\r\n\r\npicture";
        assert_eq!(tidy(sent.as_bytes()), Ok(expected.to_owned()), "{length}");
    }
    let old = "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\npic";
    assert_eq!(tidy(old.as_bytes()).unwrap(), "HTTP/1.1 200 -\r\ncontent-length: 3\r\nconnection: close\r\n\r\npic");
}

#[test]
fn of_lengths_that_contradict_each_other_the_one_that_comes_true_counts() {
    for (sent, content, whole) in
        [("picture", "picture", true), ("pic", "pic", true), ("pictur", "pictur", false), ("pictures", "picture", true)]
    {
        for lengths in ["Content-Length: 3\r\nContent-Length: 7\r\n", "Content-Length: 7, 3\r\n"] {
            let answer = tidy(format!("HTTP/1.1 200 OK\r\n{lengths}\r\n{sent}").as_bytes()).unwrap();
            let (head, found, ended) = body(&answer);
            assert!(head.ends_with("transfer-encoding: chunked\r\nconnection: close"), "{head}");
            assert_eq!((found.as_str(), ended), (content, whole), "{lengths} {sent}");
        }
    }
}

#[test]
fn chunks_are_read_as_curl_reads_them() {
    let good = [
        "3\r\npic\r\n4\r\nture\r\n0\r\n\r\n",
        "3;a=b\r\npic\r\n0004 ; x\r\nture\r\n000\r\nX-Trailer: 1\r\njunk\r\n\r\n",
        "3\npic\n4\nture\n0\n\n",
        " 3 \t\r\npic\r\n4zz\r\nture\r\n0\r\n\r\nmore than was asked for",
        // The connection ends before the trailers do.
        "7\r\npicture\r\n0\r\n",
    ];
    for heading in ["Transfer-Encoding: chunked", "transfer-encoding: identity, Chunked\r\nContent-Length: 2"] {
        for chunks in good {
            let sent = format!("HTTP/1.1 200 OK\r\n{heading}\r\n\r\n{chunks}");
            let (_, found, ended) = body(&tidy(sent.as_bytes()).unwrap());
            assert_eq!((found.as_str(), ended), ("picture", true), "{sent:?}");
        }
    }
    let cut = tidy(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\npicture\r\n").unwrap();
    assert!(!body(&cut).2, "whether more would have come, nobody knows");
    for (chunks, why) in [
        ("\r\npicture", Malformed::NoChunkSize),
        ("picture\r\n", Malformed::NoChunkSize),
        ("-1\r\n", Malformed::NoChunkSize),
        ("0x10\r\n", Malformed::NoChunkSize),
        ("11111111111111111\r\n", Malformed::NoChunkSize),
        ("3\r\npicture\r\n", Malformed::NoChunkEnd),
    ] {
        let sent = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(tidy(sent.as_bytes()), Err(why), "{chunks:?}");
    }
    let endless = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;{}", "x".repeat(20_000));
    assert_eq!(tidied(endless.as_bytes(), 1000), Err(Malformed::LongChunkLine));
}

#[test]
fn what_is_no_answer_is_an_error_at_once() {
    for sent in [
        "nonsense",
        "\u{89}PNG\r\n",
        "SSH-2.0-x\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/3 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
    ] {
        assert_eq!(tidied(sent.as_bytes(), 100), Err(Malformed::NoStatus), "{sent:?}");
    }
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(400_000));
    assert_eq!(tidied(endless.as_bytes(), 16_384), Err(Malformed::LongHead));
}

#[test]
fn answers_follow_each_other_on_one_connection() {
    let mut tidier = Tidier::default();
    for status in [304, 200] {
        tidier.sent();
        let sent = format!("HTTP/1.1 {status} OK\r\nContent-Length: {}\r\n\r\n", if status == 304 { 9 } else { 0 });
        tidier.feed(sent.as_bytes()).unwrap();
        assert!(tidier.ready().starts_with(format!("HTTP/1.1 {status} -\r\n").as_bytes()));
        tidier.take(tidier.ready().len());
        assert!(!tidier.is_over());
    }
    tidier.feed(b"HTTP/1.1 200 OK").unwrap();
    assert!(tidier.ready().is_empty() && tidier.is_over(), "nobody asked");
}
