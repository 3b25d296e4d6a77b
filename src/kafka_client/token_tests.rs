use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;

use super::*;

fn jwt(claims: &str) -> String {
    format!("{}.{}.signature", URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#), URL_SAFE_NO_PAD.encode(claims))
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Answers with `answer` and keeps what it was sent.
struct Endpoint {
    url: String,
    seen: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

impl Endpoint {
    async fn answering(status: StatusCode, answer: &str) -> Self {
        type Shared = (Arc<Mutex<Vec<(HeaderMap, String)>>>, StatusCode, String);
        let seen = Arc::new(Mutex::new(Vec::new()));
        async fn token(
            State((seen, status, answer)): State<Shared>,
            headers: HeaderMap,
            body: String,
        ) -> (StatusCode, String) {
            seen.lock().unwrap().push((headers, body));
            (status, answer)
        }
        let app = Router::new().route("/token", post(token)).with_state((seen.clone(), status, answer.to_owned()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, seen }
    }

    fn settings(&self) -> OauthSettings {
        OauthSettings {
            token_url: Some(self.url.clone()),
            client_id: Some("us: and + them".into()),
            client_secret: Some(Secret::new("hunter2")),
            ..OauthSettings::default()
        }
    }
}

#[tokio::test]
async fn the_grant_is_asked_for_as_the_rfc_says() {
    let token = jwt(r#"{"sub":"worker","exp":32503680000}"#);
    let endpoint = Endpoint::answering(
        StatusCode::OK,
        &format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":60}}"#),
    )
    .await;
    let settings = OauthSettings { scope: Some("kafka write".into()), ..endpoint.settings() };
    let made = new(&settings).await.unwrap();
    assert_eq!((made.token, made.principal_name.as_str()), (token, "worker"));
    // The sooner of `expires_in` and `exp`.
    assert!((now_ms() + 50_000..=now_ms() + 60_000).contains(&made.lifetime_ms), "{}", made.lifetime_ms);
    let (headers, body) = endpoint.seen.lock().unwrap()[0].clone();
    let form: HashMap<_, _> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    assert_eq!(form["grant_type"], "client_credentials");
    assert_eq!(form["scope"], "kafka write");
    let basic = headers["authorization"].to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
    assert_eq!(STANDARD.decode(basic).unwrap(), b"us%3A+and+%2B+them:hunter2");
}

/// Where this machine's clock is ahead, all that a server gives seems to have expired already.
#[tokio::test]
async fn a_clock_that_is_ahead_does_not_expire_what_was_just_given() {
    let token = jwt(r#"{"sub":"worker","exp":1000}"#);
    let answer = format!(r#"{{"access_token":"{token}","expires_in":60}}"#);
    let made = new(&Endpoint::answering(StatusCode::OK, &answer).await.settings()).await.unwrap();
    assert!((now_ms() + 50_000..=now_ms() + 60_000).contains(&made.lifetime_ms), "{}", made.lifetime_ms);
    let silent = format!(r#"{{"access_token":"{token}"}}"#);
    let error = new(&Endpoint::answering(StatusCode::OK, &silent).await.settings()).await.err().unwrap().to_string();
    assert!(error.contains("expired") && error.contains("clock"), "{error}");
}

#[tokio::test]
async fn refusals_name_the_setting_and_not_the_secret() {
    let cases = [
        (
            StatusCode::UNAUTHORIZED,
            r#"{"error":"invalid_client","error_description":"hunter2 is wrong"}"#,
            "invalid_client",
        ),
        (StatusCode::BAD_REQUEST, "<html>hunter2</html>", "HTTP 400; check kafka.oauth.client_id"),
        (StatusCode::FOUND, "", "HTTP 302"),
        (StatusCode::OK, r#"{"token":"hunter2"}"#, "access_token"),
        (StatusCode::OK, "", "0 bytes"),
    ];
    for (status, answer, part) in cases {
        let endpoint = Endpoint::answering(status, answer).await;
        let error = new(&endpoint.settings()).await.err().unwrap().to_string();
        assert!(error.contains(part) && error.contains("kafka.oauth."), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}/token", listener.local_addr().unwrap());
    drop(listener);
    let settings = OauthSettings { token_url: Some(closed), ..OauthSettings::default() };
    let error = new(&settings).await.err().unwrap().to_string();
    assert!(error.contains("cannot be reached") && error.contains("kafka.oauth.token_url"), "{error}");
}

#[test]
fn a_file_is_read_anew_and_must_hold_one_token_that_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let settings = OauthSettings { token_file: Some(file.display().to_string()), ..OauthSettings::default() };
    let property = settings.to_property();
    let made = |text: &str| {
        std::fs::write(&file, text).unwrap();
        blocking(Some(&property)).map(|made| (made.token, made.principal_name, made.lifetime_ms))
    };
    let first = jwt(r#"{"sub":"a","exp":32503680000}"#);
    assert_eq!(made(&format!("{first}\n")).unwrap(), (first.clone(), "a".into(), 4_000_000_000_000));
    let (token, principal, lifetime_ms) = made("opaque").unwrap();
    assert_eq!((token.as_str(), principal.as_str()), ("opaque", ""));
    assert!((now_ms() + 290_000..=now_ms() + 300_000).contains(&lifetime_ms));
    for (text, part, next_step) in [
        ("", "is empty", "what writes the file"),
        ("two tokens", "one token", "what writes the file"),
        (&jwt(r#"{"exp":1}"#), "expired", "renew the file"),
    ] {
        let Finding { message, hint } = made(text).err().unwrap();
        assert!(message.contains(part) && message.contains("kafka.oauth.token_file"), "{message}");
        assert!(hint.is_some_and(|hint| hint.contains(next_step)), "{message}");
    }
    std::fs::remove_file(&file).unwrap();
    let error = blocking(Some(&property)).err().unwrap().to_string();
    assert!(error.contains("cannot be read"), "{error}");
    let error = blocking(Some("principal=admin")).err().unwrap().to_string();
    assert!(error.contains("[kafka.oauth]"), "{error}");
}

#[tokio::test]
async fn an_authority_of_its_own_is_read_as_pem() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let mut settings = OauthSettings { token_url: Some("https://127.0.0.1:9/".into()), ..OauthSettings::default() };
    settings.ca_file = Some(file.display().to_string());
    for content in [None, Some("no certificate")] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let error = new(&settings).await.err().unwrap().to_string();
        assert!(error.contains("kafka.oauth.ca_file") && error.contains("PEM"), "{error}");
    }
}

#[test]
fn no_new_token_matters_once_the_last_one_is_over() {
    let current = Current::default();
    assert!(current.failed(&"the server is away"), "there never was one");
    let token = |lifetime_ms| OAuthToken { token: "t".into(), principal_name: String::new(), lifetime_ms };
    current.had(&token(now_ms() + 60_000));
    assert!(!current.failed(&"the server is away"));
    current.had(&token(now_ms() - 1));
    assert!(current.failed(&"the server is away"));
}
