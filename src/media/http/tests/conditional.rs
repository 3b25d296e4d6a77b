//! Files that may be unchanged.

use super::*;

async fn again(url: &str, etag: Option<&str>, last_modified: Option<&str>) -> Result<Answer, MediaError> {
    let settings = settings();
    let fetcher = fetcher(&settings, 1);
    let known =
        Validators { etag: etag.map(str::to_owned), last_modified: last_modified.map(str::to_owned), version_id: None };
    fetcher.fetch(url, Some(&known), &mut Deadline::after(Duration::from_secs(30))).await
}

const TIME: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

/// Answers 304 if the request has the condition of its path; `/moved/…` and `/deaf` never do.
async fn conditional_server() -> Server {
    Server::start(async |head: String| {
        let head = head.to_ascii_lowercase();
        let has = |line: &str| head.contains(&format!("\r\n{}\r\n", line.to_ascii_lowercase()));
        let path = head.split(' ').nth(1).unwrap();
        let same = match path.strip_prefix("/moved").unwrap_or(path) {
            "/strong" => has("If-None-Match: \"abc\""),
            "/weak" => has("If-None-Match: W/\"abc\""),
            "/dated" => has(&format!("If-Modified-Since: {TIME}")) && !head.contains("if-none-match"),
            _ => false,
        };
        match path.strip_prefix("/moved") {
            Some(to) => reply("302 Found", &[&format!("Location: {to}")], ""),
            None if same => reply("304 Not Modified", &["ETag: \"abc\""], ""),
            None => reply("200 OK", &[], "picture"),
        }
    })
    .await
}

#[tokio::test]
async fn a_file_that_is_still_the_same_is_not_sent_again() {
    let server = conditional_server().await;
    let (strong, weak) = (Some("\"abc\""), Some("W/\"abc\""));
    let cases = [
        ("/strong", strong, Some(TIME), Some(UnchangedBy::Etag)),
        ("/strong", Some("\"old\""), Some(TIME), None),
        ("/weak", weak, None, Some(UnchangedBy::Etag)),
        ("/dated", None, Some(TIME), Some(UnchangedBy::LastModified)),
        // The last hop may be another file now, so only a strong ETag is sent.
        ("/moved/strong", strong, None, Some(UnchangedBy::Etag)),
        ("/moved/weak", weak, None, None),
        ("/moved/dated", None, Some(TIME), None),
        ("/deaf", strong, Some(TIME), None),
        ("/strong", Some("no\nheader"), None, None),
    ];
    for (path, etag, last_modified, expected) in cases {
        match again(&server.url(path), etag, last_modified).await.unwrap() {
            Answer::Unchanged(by) => assert_eq!(Some(by), expected, "{path}"),
            Answer::Fetched(fetched) => {
                assert_eq!((&fetched.bytes[..], expected), (&b"picture"[..], None), "{path}");
            }
        }
    }
}

#[tokio::test]
async fn not_modified_is_an_error_where_nothing_was_asked() {
    let server = Server::start(async |head: String| match head.split(' ').nth(1).unwrap() {
        "/moved" => reply("302 Found", &["Location: /there"], ""),
        _ => reply("304 Not Modified", &[], ""),
    })
    .await;
    for (path, last_modified) in [("/there", None), ("/moved", Some(TIME))] {
        let error = again(&server.url(path), None, last_modified).await.unwrap_err();
        assert_eq!(
            (error.class, error.reason),
            (Class::Permanent, MediaReason::HttpStatus),
            "{path}: {}",
            error.message
        );
    }
}
