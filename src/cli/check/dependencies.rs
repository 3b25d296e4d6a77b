//! The checks of a worker's dependencies. A new check is one `add` in [`all`] and one function.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use super::{Checklist, DEADLINE, Verdict};
use crate::budget::Budget;
use crate::cli::output::counted;
use crate::clip::{self, Clip};
use crate::config::{
    ClipSettings, LabelSettings, MediaSettings, ModelEntry, Settings, StoreKind, StoreSettings, cores, is_pattern,
};
use crate::dead_letter::{self, TopicFacts};
use crate::domain::{Explain, Finding, Reason, StoreReason};
use crate::media::MediaClient;
use crate::picture::{AVIF_HAS_SIMD, JPEG_HAS_SIMD};
use crate::source::{KafkaSource, Removed};
use crate::store::{self, CollectionDefinition, Store};
use crate::telemetry::Metrics;

/// Enough for several models of gigabytes from a slow disk.
const MODEL_DEADLINE: Duration = Duration::from_secs(180);

/// A result that several checks await.
type Common<T> = Shared<BoxFuture<'static, Result<T, Finding>>>;

/// Every dependency of a worker with these settings.
pub(super) fn all(settings: &Settings) -> Checklist {
    let mut checks = Checklist::default();
    let set = settings.effective.entries().iter().filter(|e| e.origin.is_some()).count();
    checks.add("configuration", async move { Ok(format!("valid, {} set", counted(set as u64, "key"))) });
    if !settings.kafka.brokers.is_empty() {
        checks.add("kafka", kafka(settings.clone()));
    }
    checks.add("media", media(settings.media.clone()));
    checks.add("onnxruntime", onnxruntime(settings.clip.clone()));
    checks.add("jpeg decoder", async {
        let without = Finding::new("libjpeg-turbo without SIMD, which takes about twice as long");
        Ok(match JPEG_HAS_SIMD {
            true => Finding::new("libjpeg-turbo with SIMD"),
            false => without.hint("install nasm and build again"),
        })
    });
    checks.add("avif decoder", async {
        let without = "rav1d without SIMD, which takes several times as long; install nasm and build with `make`";
        Ok(if AVIF_HAS_SIMD { "rav1d with SIMD" } else { without }.to_owned())
    });
    if settings.clip.models.is_empty() {
        checks.add("models", async {
            Err::<Finding, _>(
                Finding::new("clip.models is empty")
                    .hint("set clip.models, for example ViT-B-32/openai=models/vit-b-32"),
            )
        });
    }
    let store = opened(settings.clone());
    let mut collections = Vec::new();
    for entry in &settings.clip.models {
        let model = loaded(entry.clone(), settings.clip.clone());
        checks.add_slow(format!("model {}", entry.id), MODEL_DEADLINE, described(model.clone(), settings.clip.clone()));
        if settings.labels.of(&entry.id).next().is_some() {
            let check = labels(model.clone(), settings.labels.clone());
            checks.add_slow(format!("labels of {}", entry.id), MODEL_DEADLINE, check);
        }
        let name = entry.id.collection(&settings.store.collection_template, &settings.store.catalog);
        collections.push((name, model));
    }
    checks.add("store", {
        let store = store.clone();
        async move { Ok(store.await?.1) }
    });
    // The store is available while one node is, so each node also has its own line.
    if settings.store.kind == StoreKind::Qdrant && settings.store.urls().count() > 1 {
        for url in settings.store.urls() {
            let alone = StoreSettings { url: url.to_owned(), ..settings.store.clone() };
            checks.add(format!("store node {}", crate::redact::url(url)), node(alone));
        }
    }
    for (name, model) in collections {
        let check = collection(name.clone(), model, store.clone());
        checks.add_slow(format!("collection {name}"), MODEL_DEADLINE + DEADLINE, check);
    }
    if let Some(address) = settings.telemetry.listen {
        checks.add("telemetry", telemetry_address(address));
    }
    checks
}

async fn kafka(settings: Settings) -> Result<Finding, Finding> {
    let topics = settings.kafka.topics.iter().filter(|topic| !is_pattern(topic));
    let mut dead_letters: Vec<String> = topics.map(|t| settings.dead_letter.topic_of(t)).collect();
    dead_letters.sort();
    dead_letters.dedup();
    let drain_deadline = Duration::from_millis(settings.pipeline.drain_deadline_ms);
    let retries = settings.dead_letter.retry_topics(&settings.kafka.topics);
    let found = KafkaSource::check(&settings.kafka, &retries, drain_deadline, dead_letters.clone()).await;
    let found = found.map_err(|error| error.explain())?;
    let topics: Vec<String> =
        found.topics.iter().map(|(topic, n)| format!("{topic} ({})", counted(*n as u64, "partition"))).collect();
    let absent = found.absent.join(", ");
    let dead_letters = match (found.absent.is_empty(), found.creates_topics) {
        (true, _) => {
            let notes = dead_letter_notes(&settings, &dead_letters).await;
            let notes: String = notes.iter().map(|note| format!("; note: {note}")).collect();
            format!("dead-letter topics {}{notes}", dead_letters.join(", "))
        }
        (false, Some(true)) => format!("dead-letter topics that the brokers will create when needed: {absent}"),
        (false, None) => format!(
            "warning: there is no dead-letter topic {absent}, and the brokers do not report whether they create topics \
             automatically (auto.create.topics.enable)"
        ),
        (false, Some(false)) => {
            let message = format!("there is no dead-letter topic {absent}, and the brokers do not create topics");
            return Err(Finding::new(message).hint("create it, or set dead_letter.topic to an existing topic"));
        }
    };
    let mut detail =
        format!("{}, topics {}; {dead_letters}", counted(found.brokers as u64, "broker"), topics.join(", "));
    let group = &settings.kafka.group_id;
    for Removed { partition, from, to } in &found.removed {
        detail += &format!(
            "; warning: {} of {partition} were removed before group {group} read them (it is at offset {from}, the log \
             begins at {to})",
            counted((to - from).unsigned_abs(), "message")
        );
    }
    if !found.recreated.is_empty() {
        detail += &format!(
            "; warning: recreated since group {group} read them, so they are read from their beginning: {}",
            found.recreated.join(", ")
        );
    }
    let is_doubtful = !found.absent.is_empty() && found.creates_topics.is_none();
    let hint = is_doubtful.then_some("create the dead-letter topic, to be safe".into());
    Ok(Finding { message: detail, hint })
}

/// Notes on the settings of dead-letter topics, if the brokers report them.
async fn dead_letter_notes(settings: &Settings, topics: &[String]) -> Vec<String> {
    let limit = |facts: TopicFacts| facts.message_bytes_max.unwrap_or(usize::MAX);
    let mut notes = Vec::new();
    for topic in topics {
        let Ok(facts) = dead_letter::describe(&settings.kafka, topic).await else { continue };
        if facts.is_compacted {
            notes.push(format!("{topic} is compacted, so its letters get unique keys (see docs/messages.md)"));
        }
        let sources = settings.kafka.topics.iter().filter(|source| settings.dead_letter.topic_of(source) == *topic);
        for source in sources {
            let Ok(source_facts) = dead_letter::describe(&settings.kafka, source).await else { continue };
            if limit(facts) < limit(source_facts) {
                notes.push(format!(
                    "{topic} accepts smaller messages than {source} (max.message.bytes), so large letters are written in parts"
                ));
            }
        }
    }
    notes
}

async fn media(settings: MediaSettings) -> Verdict {
    let budget = Budget::new(settings.media_bytes_max);
    let client = MediaClient::new(&settings, budget, Arc::default()).await.map_err(|e| e.explain())?;
    let s3 = match &settings.s3_endpoint {
        Some(endpoint) => {
            let found = client.check_s3().await.map_err(|e| e.explain())?;
            format!("S3 at {}: {found}", crate::redact::url(endpoint))
        }
        None if settings.s3_anonymous || !settings.s3_buckets.is_empty() => {
            "no S3 endpoint set (AWS, if messages name s3://)".to_owned()
        }
        None => "no S3 (s3:// is refused until media.s3_buckets is set)".to_owned(),
    };
    let warning = client.warning().map(|warning| format!("; warning: {warning}")).unwrap_or_default();
    Ok(format!("settings are valid; {s3}{warning}"))
}

async fn onnxruntime(settings: ClipSettings) -> Verdict {
    off_the_async_threads(move || clip::load_runtime(&settings).map_err(|e| e.explain())).await
}

fn loaded(entry: ModelEntry, settings: ClipSettings) -> Common<Arc<Clip>> {
    let load = move || {
        let clip = Clip::load(&entry, &settings, Arc::new(Metrics::default()));
        clip.map(Arc::new).map_err(|e| e.explain())
    };
    off_the_async_threads(load).boxed().shared()
}

async fn described(model: Common<Arc<Clip>>, settings: ClipSettings) -> Verdict {
    let clip = model.await?;
    let runs = clip.runs();
    let unavailable = runs.left_out();
    let unavailable =
        if unavailable.is_empty() { String::new() } else { format!("; unavailable: {}", unavailable.join("; ")) };
    let warnings: String =
        settings.beyond(cores()).into_iter().map(|problem| format!("; warning: {problem}")).collect();
    Ok(format!("{} layout, dimension {}, runs {runs}{unavailable}{warnings}", clip.layout(), clip.dimension()))
}

/// Whether the model's pictures can be labelled as the settings say.
async fn labels(model: Common<Arc<Clip>>, settings: LabelSettings) -> Verdict {
    let unknown = |_| Finding::new("not checked: no model").hint("see the result for the model");
    let clip = model.await.map_err(unknown)?;
    clip.labelling(&settings).await.map_err(|e| e.explain())?;
    let sets: Vec<_> = settings.of(clip.id()).collect();
    let labels: usize = sets.iter().map(|set| set.labels.len()).sum();
    Ok(format!("{} in {}", counted(labels as u64, "label"), counted(sets.len() as u64, "set")))
}

/// The store, and its own description.
fn opened(settings: Settings) -> Common<(Arc<dyn Store>, String)> {
    let open = async move {
        if let Some(path) = &settings.store.collection_definition {
            CollectionDefinition::from_file(path).map_err(|e| e.explain())?;
        }
        let store = store::open(&settings.store).await.map_err(|e| match (e.reason, settings.store.kind) {
            // Mostly a running worker's folder.
            (StoreReason::Locked, StoreKind::Embedded) => {
                e.explain().hint("stop the clipstream that uses it, unless it is the intended one, or set store.path")
            }
            _ => e.explain(),
        })?;
        let what = store.check().await.map_err(|e| e.explain())?;
        Ok((store, what))
    };
    open.boxed().shared()
}

/// One node of the store, independent of the others.
async fn node(settings: StoreSettings) -> Verdict {
    let store = store::open(&settings).await.map_err(|e| e.explain())?;
    store.check().await.map_err(|e| e.explain())
}

/// Whether the model may write to its collection.
async fn collection(name: String, model: Common<Arc<Clip>>, store: Common<(Arc<dyn Store>, String)>) -> Verdict {
    let unknown =
        |what: &str| Finding::new(format!("not checked: no {what}")).hint(format!("see the result for the {what}"));
    let (store, _) = store.await.map_err(|_| unknown("store"))?;
    let recorded = match store.fingerprint(&name).await {
        Err(e) if e.reason == StoreReason::CollectionMissing => {
            return Ok("does not exist yet; the first run or index creates it".into());
        }
        recorded => recorded.map_err(|e| e.explain())?,
    };
    let Some(recorded) = recorded else {
        return Err(Finding::new("it records no model, so clipstream did not create it")
            .hint("set store.catalog or store.collection_template to another name"));
    };
    let clip = model.await.map_err(|_| unknown("model"))?;
    let differences = clip.fingerprint().map_err(|e| e.explain())?.differences(&recorded);
    if !differences.is_empty() {
        let hint = StoreReason::CollectionDiffers.hint().unwrap_or_default();
        return Err(Finding::new(format!("it belongs to another model: {}", differences.join("; "))).hint(hint));
    }
    let points = store.count(&name).await.map_err(|e| e.explain())?;
    Ok(format!("{} of this model", counted(points, "point")))
}

async fn off_the_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Finding> + Send + 'static,
) -> Result<T, Finding> {
    let broke =
        |e: tokio::task::JoinError| Finding::new(format!("the check failed: {e}")).hint("see the line before this one");
    tokio::task::spawn_blocking(work).await.map_err(broke)?
}

/// The address is free, or used by another clipstream.
async fn telemetry_address(address: SocketAddr) -> Verdict {
    let error = match tokio::net::TcpListener::bind(address).await {
        Ok(_) => return Ok(format!("{address} is free")),
        Err(error) => error,
    };
    if error.kind() == ErrorKind::AddrInUse && is_clipstream(address).await {
        return Ok(format!("{address} is in use by a running clipstream"));
    }
    Err(Finding::new(format!("cannot listen on {address}: {error}"))
        .hint("stop the program that uses it, or set telemetry.listen to another IP address:port (empty: not served)"))
}

async fn is_clipstream(address: SocketAddr) -> bool {
    // The address is local, so no proxy is used.
    let Ok(client) = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build() else {
        return false;
    };
    let answer = client.get(format!("http://{address}/livez")).send().await;
    let server = answer.ok().and_then(|a| a.headers().get("server").cloned());
    server.is_some_and(|name| name.as_bytes().starts_with(b"clipstream/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Health, serve};

    #[tokio::test]
    async fn a_taken_address_is_a_fault_unless_we_took_it() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let other = tokio::net::TcpListener::bind(any).await.unwrap();
        let taken = other.local_addr().unwrap();
        // This listener does not speak HTTP.
        let closing = tokio::spawn(async move {
            while let Ok((socket, _)) = other.accept().await {
                drop(socket)
            }
        });
        let found = telemetry_address(taken).await.unwrap_err();
        assert!(found.message.contains(&taken.to_string()), "{found:?}");
        closing.abort();

        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let metrics = Arc::new(Metrics::default());
        let stopped = async move { drop(stopped.await) };
        let (ours, server) = serve(any, metrics, Health::new(), stopped).await.unwrap();
        assert!(telemetry_address(ours).await.unwrap().contains("in use by a running clipstream"));
        stop.send(()).unwrap();
        server.await.unwrap();
        assert_eq!(telemetry_address(ours).await.unwrap(), format!("{ours} is free"));
    }
}
