use super::*;

fn problems(layers: Layers) -> Vec<Problem> {
    Settings::load(layers).expect_err("these layers must not load").0
}

fn of_toml(toml: &str) -> Vec<Problem> {
    problems(Layers::default().with_text("worker.toml", toml))
}

/// Key and hint of every problem.
fn hints(problems: &[Problem]) -> Vec<(&str, &str)> {
    problems.iter().map(|p| (p.key.as_str(), p.hint.as_deref().unwrap_or(""))).collect()
}

#[test]
fn without_layers_it_is_the_defaults() {
    let loaded = Settings::load(Layers::default()).unwrap();
    let loaded = Settings { effective: Effective::default(), ..loaded };
    assert_eq!(format!("{loaded:?}"), format!("{:?}", Settings::default()));
}

#[test]
fn the_annotated_file_names_every_key_with_its_default() {
    let file = include_str!("../../config/clipstream.toml");
    let is_setting = |line: &str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase());
    let lines: Vec<&str> = file.lines().map(|l| if is_setting(l) { &l[1..] } else { l }).collect();
    let from_file = Settings::load(Layers::default().with_text("clipstream.toml", &lines.join("\n"))).unwrap();
    let defaults = Settings::load(Layers::default()).unwrap();
    for (default, written) in defaults.effective.entries().iter().zip(from_file.effective.entries()) {
        assert_eq!((&default.key, &default.shown), (&written.key, &written.shown), "value differs from the default");
        // An empty table has no values that could have come from the file; its line is looked for instead.
        let is_there = written.origin.is_some() || lines.contains(&format!("{} = {{}}", written.written).as_str());
        assert!(is_there, "{} is not in config/clipstream.toml", default.key);
    }
    assert_eq!(defaults.effective.entries().len(), from_file.effective.entries().len());
    // As it stands, everything is commented out, and each setting has a comment above it.
    assert_eq!(Settings::load(Layers::default().with_text("f", file)).unwrap().show(), defaults.show());
    for pair in file.lines().collect::<Vec<_>>().windows(2).filter(|pair| is_setting(pair[1])) {
        assert!(pair[0].starts_with("# "), "{} has no comment", pair[1]);
    }
}

#[test]
fn later_layers_win_and_say_so() {
    let layers = Layers::default()
        .with_text("worker.toml", "[media]\nfetch_timeout_ms = 1000\nredirects_max = 1\nconnect_timeout_ms = 10\n")
        .with_environment([
            ("CLIPSTREAM__MEDIA__FETCH_TIMEOUT_MS", "2000"),
            ("CLIPSTREAM__MEDIA__REDIRECTS_MAX", "2"),
            ("CLIPSTREAM_CONFIG", "ignored"),
            ("CLIPSTREAM_TEST_QDRANT_URL", "ignored"),
        ])
        .with_flag("--set", "media.redirects_max=3");
    let settings = Settings::load(layers).unwrap();
    assert_eq!((settings.media.connect_timeout_ms, settings.media.fetch_timeout_ms), (10, 2000));
    assert_eq!(settings.media.redirects_max, 3);
    let origin = |key: &str| settings.effective.entry(key).and_then(|e| e.origin.clone()).unwrap_or_default();
    assert_eq!(origin("media.connect_timeout_ms"), "worker.toml, line 4");
    assert_eq!(origin("media.fetch_timeout_ms"), "environment variable CLIPSTREAM__MEDIA__FETCH_TIMEOUT_MS");
    assert_eq!(origin("media.redirects_max"), "--set");
    assert_eq!(origin("media.pixels_max"), "");
}

#[test]
fn lists_and_maps_come_from_every_layer() {
    let layers = Layers::default()
        .with_text(
            "f",
            "kafka.topics = ['Img.1', 'cap']\nkafka.topic_ops = { 'Img.1' = 'patch' }\n\
             kafka.properties = { 'max.poll.interval.ms' = 400000, 'a.b' = 'file' }\n",
        )
        .with_environment([
            ("CLIPSTREAM__KAFKA__TOPIC_OPS", "cap=delete"),
            ("CLIPSTREAM__KAFKA__BROKERS", "a:1, b:2,"),
            ("CLIPSTREAM__KAFKA__PROPERTIES__A_B", "environment"),
        ])
        .with_flag("--set", "kafka.properties.debug=broker,topic")
        .with_flag("--set", "clip.models=ViT-B-32/openai=m/b32,ViT-L-14/openai");
    let settings = Settings::load(layers).unwrap();
    assert_eq!(settings.kafka.brokers, ["a:1", "b:2"]);
    let ops: Vec<_> = settings.kafka.topic_ops.iter().map(|(t, op)| (t.as_str(), op.as_str())).collect();
    assert_eq!(ops, [("Img.1", "patch"), ("cap", "delete")]);
    let properties: Vec<_> = settings.kafka.properties.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(properties, [("a.b", "environment"), ("debug", "broker,topic"), ("max.poll.interval.ms", "400000")]);
    assert_eq!(settings.clip.models[0].directory.as_deref(), Some(std::path::Path::new("m/b32")));
    assert_eq!(settings.clip.models[1].id.to_string(), "ViT-L-14/openai");
}

#[test]
fn what_is_shown_loads_again_to_the_same() {
    let layers = Layers::default()
        .with_text("f", "[kafka]\ntopics = ['a']\n[telemetry]\nlisten = ''\n[media]\nallow_networks = ['10.0.0.0/8']\n")
        .with_flag("--set", r#"kafka.properties.x.y=quote " and \ "#);
    let settings = Settings::load(layers).unwrap();
    let again = Settings::load(Layers::default().with_text("g", &settings.show())).unwrap();
    let plain = |s: Settings| format!("{:?}", Settings { effective: Effective::default(), ..s });
    assert_eq!(plain(again), plain(settings));
}

#[test]
fn secrets_are_never_shown() {
    let layers = || {
        Layers::default()
            .with_text("f", "[kafka]\nsecurity_protocol = 'sasl_ssl'\nsasl_mechanism = 'PLAIN'\nsasl_username = 'u'\n")
            .with_environment([
                ("CLIPSTREAM__KAFKA__SASL_PASSWORD", "hunter2"),
                ("CLIPSTREAM__STORE__API_KEY", "hunter2"),
                ("CLIPSTREAM__KAFKA__PROPERTIES__SSL_KEY_PASSWORD", "hunter2"),
                ("CLIPSTREAM__STORE__URL", "https://joe:hunter2@qdrant:6334"),
            ])
    };
    let settings = Settings::load(layers()).unwrap();
    assert_eq!(settings.kafka.sasl_password.as_ref().map(|s| s.expose()), Some("hunter2"));
    assert!(!settings.show().contains("hunter2"), "{}", settings.show());
    assert!(!format!("{:?}", settings.effective).contains("hunter2"));
    assert_eq!(settings.show().matches("REDACTED").count(), 3);

    let wrong = layers()
        .with_flag("--set", "kafka.security_protocol=plaintext")
        .with_flag("--set", "kafka.sasl_pasword=hunter2")
        .with_flag("--set", "kafka.sasl_password:hunter2")
        .with_flag("--set", "store.url=ftp://joe:hunter2@qdrant");
    let errors = Settings::load(wrong).unwrap_err();
    assert!(errors.0.len() >= 6, "{errors}");
    assert!(!errors.to_string().contains("hunter2"), "{errors}");
    let syntax = of_toml("[kafka]\nsasl_password = hunter2\n");
    assert_eq!(syntax[0].origin.as_deref(), Some("worker.toml, line 2"));
    assert!(!ConfigErrors(syntax).to_string().contains("hunter2"));
}

#[test]
fn unknown_names_are_errors_with_a_suggestion() {
    let found = problems(
        Layers::default()
            .with_text("f", "fetch_timeout_ms = 1\n[media]\nfetch_timeout = 1\napi_key = 'x'\n[meida]\nx = 1\n[clip.models]\na = 1\n")
            .with_environment([("CLIPSTREAM__STORE__ULR", "x"), ("CLIPSTREAM__STORE", "x"), ("CLIPSTREAM__", "x")]),
    );
    assert_eq!(
        hints(&found),
        [
            ("CLIPSTREAM__", ""),
            ("CLIPSTREAM__STORE", ""),
            ("media.api_key", "did you mean store.api_key?"),
            ("media.fetch_timeout", "did you mean media.fetch_timeout_ms?"),
            ("clip.models", ""),
            ("store.ulr", "did you mean store.url?"),
            ("fetch_timeout_ms", "did you mean media.fetch_timeout_ms?"),
            ("meida", "did you mean [media]?"),
        ]
    );
}

/// Keys that were renamed because what they mean has changed: not taken as the new ones in silence.
#[test]
fn old_names_are_refused_with_the_new_ones() {
    let found = of_toml(
        "[pipeline]\npermanent_failures_in_row_max = 5\npermanent_failures_percent_max = 5\ndead_letters_in_row_max = 7\n",
    );
    let hint = |new: &str| format!("it is now pipeline.{new}, which counts dead letters of every class");
    let (in_row, percent) = (hint("dead_letters_in_row_max"), hint("dead_letters_percent_max"));
    assert_eq!(
        hints(&found),
        [
            ("pipeline.permanent_failures_in_row_max", in_row.as_str()),
            ("pipeline.permanent_failures_percent_max", percent.as_str()),
        ]
    );
}

#[test]
fn a_bound_of_liveness_is_none_or_longer_than_a_beat() {
    let keys = |ms: u64| {
        of_toml(&format!("[telemetry]\nhung_after_ms = {ms}\n")).into_iter().map(|p| p.key).collect::<Vec<_>>()
    };
    assert_eq!(
        (keys(1000), keys(2999)),
        (vec!["telemetry.hung_after_ms".to_owned()], vec!["telemetry.hung_after_ms".to_owned()])
    );
    for good in [0, 3000] {
        let text = format!("[telemetry]\nhung_after_ms = {good}\n");
        assert!(Settings::load(Layers::default().with_text("f", &text)).is_ok());
    }
}

#[test]
fn values_out_of_range_or_kind_say_what_is_right() {
    let found = of_toml(
        "[media]\nfetch_timeout_ms = '30s'\nmedia_bytes_max = '32 MiB'\ns3_anonymous = 'yes'\nallow_networks = ['10.0.0.1', 'x']\n\
         [clip]\nimage_batch_max = 0\ntext_batch_max = 4097\nproviders = 'cpu,cudda'\nmodels = ['b32', 'ViT-B-32=']\n\
         [store]\nkind = 5\ntimeout_ms = -1\n[telemetry]\nlisten = 'localhost:9090'\nlog_filter = 'inof'\n",
    );
    let found: Vec<_> = found
        .iter()
        .map(|p| (p.key.as_str(), p.found.as_deref().unwrap_or(""), p.hint.as_deref().unwrap_or("")))
        .collect();
    assert_eq!(
        found,
        [
            ("media.fetch_timeout_ms", "\"30s\"", "write it without a unit: 30000"),
            ("media.media_bytes_max", "\"32 MiB\"", "write it without a unit: 33554432"),
            ("media.allow_networks", "\"10.0.0.1\"", "for one address: 10.0.0.1/32"),
            ("media.allow_networks", "\"x\"", ""),
            ("media.s3_anonymous", "\"yes\"", ""),
            ("clip.models", "\"b32\"", "for example ViT-B-32/openai=models/vit-b-32"),
            ("clip.models", "\"ViT-B-32=\"", "for example ViT-B-32/openai=models/vit-b-32"),
            ("clip.providers", "\"cudda\"", "did you mean cuda?"),
            ("clip.image_batch_max", "0", ""),
            ("clip.text_batch_max", "4097", ""),
            ("store.kind", "5", ""),
            ("store.timeout_ms", "-1", ""),
            ("telemetry.listen", "\"localhost:9090\"", "127.0.0.1:9090"),
            ("telemetry.log_filter", "\"inof\"", "did you mean info?"),
        ]
    );
}

#[test]
fn values_that_do_not_go_together_are_found() {
    let found = of_toml(
        "[kafka]\nbrokers = ['http://x:1', 'ok:9092']\ntopics = ['a', 'a', 'a.dlq']\ntopic_ops = { b = 'patch' }\n\
         security_protocol = 'sasl_ssl'\n[media]\nconnect_timeout_ms = 60000\ns3_endpoint = 'minio:9000'\n\
         [clip]\nmodels = ['a/b=x', 'a/b=y', 'A/B=z']\nproviders = []\n\
         [store]\nurl = 'localhost:6334'\ncollection_template = '{catalog}_{name}'\n\
         [pipeline]\ndrain_deadline_ms = 300000\nbackoff_base_ms = 40000\nmedia_in_flight_bytes_max = 1048576\n",
    );
    let keys: Vec<_> = found.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "kafka.brokers",
            "kafka.topics",
            "kafka.topic_ops.b",
            "kafka.sasl_mechanism",
            "media.connect_timeout_ms",
            "media.s3_endpoint",
            "store.url",
            "store.collection_template",
            "clip.providers",
            "clip.models",
            "pipeline.backoff_base_ms",
            "pipeline.drain_deadline_ms",
            "pipeline.media_in_flight_bytes_max",
            "dead_letter.topic",
        ]
    );
    let drain = |settings: &str| {
        let text = format!("{settings}\n[pipeline]\ndrain_deadline_ms = 300000\n");
        Settings::load(Layers::default().with_text("f", &text)).map_err(|problems| problems.0[0].expected.clone())
    };
    let raised = "[kafka]\nsession_timeout_ms = 300001\n[kafka.properties]\n'max.poll.interval.ms' = 600000";
    assert!(drain(raised).is_ok());
    let by_property = "[kafka.properties]\n'max.poll.interval.ms' = 600000\n'session.timeout.ms' = 300001";
    assert!(drain(by_property).is_ok());
    for half in ["[kafka]\nsession_timeout_ms = 300000", "[kafka.properties]\n'max.poll.interval.ms' = 600000"] {
        let expected = drain(half).unwrap_err();
        assert!(
            expected.contains("kafka.session_timeout_ms") && expected.contains("max.poll.interval.ms"),
            "{expected}"
        );
    }
}

#[test]
fn retry_topics_are_refused_where_they_could_not_keep_order() {
    let expected = |settings: &str| {
        let text = format!("[dead_letter]\nretry_delays_s = [60, 600]\n{settings}");
        let loaded = Settings::load(Layers::default().with_text("f", &text));
        let of_key = |problem: &Problem| problem.key == "dead_letter.retry_delays_s";
        loaded.map(|_| ()).map_err(|problems| problems.0.into_iter().find(of_key).unwrap().expected)
    };
    let strict = "[store]\nguard = 'strict'\n";
    assert_eq!(expected(&format!("{strict}[kafka]\ntopics = ['a', 'b']")), Ok(()));
    for (settings, part) in [
        ("[store]\nguard = 'check'", "store.guard is strict"),
        ("[store]\nguard = 'strict'\ntombstone_retention_s = 660", "less in all than store.tombstone_retention_s"),
        (&format!("{strict}[kafka]\nauto_offset_reset = 'latest'"), "kafka.auto_offset_reset is earliest"),
        (&format!("{strict}[kafka.properties]\n'auto.offset.reset' = 'latest'"), "kafka.auto_offset_reset is earliest"),
        (&format!("{strict}[kafka]\ntopics = ['^a.*']"), "the pattern ^a.*"),
        (&format!("{strict}[kafka]\ntopics = ['a', 'a.retry.2']"), "a.retry.2"),
    ] {
        let found = expected(settings).unwrap_err();
        assert!(found.contains(part), "{settings}: {found}");
    }
}

#[test]
fn names_of_models_are_brought_into_one_form() {
    let models = |text: &str| {
        let loaded = Settings::load(Layers::default().with_flag("--set", format!("clip.models={text}")));
        loaded.map(|settings| settings.clip.models.iter().map(text::Text::text).collect::<Vec<_>>())
    };
    assert_eq!(
        models("ViT-L/14,clip-ViT-B-32=m,ViT-B-32/laion2b-s34b-b79k,ours/v1=o").unwrap(),
        ["ViT-L-14/openai", "ViT-B-32/openai=m", "ViT-B-32/laion2b_s34b_b79k", "ours/v1=o"]
    );
    let twice = models("ViT-B-32/openai,ViT-B/32").unwrap_err();
    assert!(twice.to_string().contains("every model once"), "{twice}");
    // Without a directory only what OpenCLIP publishes is known.
    let unknown = models("ViT-B-23/openai").unwrap_err();
    assert_eq!(hints(&unknown.0), [("clip.models", "did you mean ViT-B-32/openai?")]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("ours__v1")).unwrap();
    let layers = Layers::default()
        .with_flag("--set", "clip.models=ours/v1")
        .with_flag("--set", format!("clip.models_directory={}", folder.path().display()));
    let settings = Settings::load(layers).unwrap();
    assert_eq!(settings.clip.model_directory(&settings.clip.models[0]), folder.path().join("ours__v1"));
}

#[test]
fn hugging_faces_variables_stand_for_keys_below_the_file() {
    let variables = [("HF_ENDPOINT", "https://mirror"), ("HF_TOKEN", "hf_secret"), ("HF_HUB_OFFLINE", "1")];
    let settings = Settings::load(Layers::default().with_environment(variables)).unwrap();
    assert_eq!((settings.hub.endpoint.as_str(), settings.hub.offline), ("https://mirror", true));
    assert_eq!(settings.hub.token.as_ref().map(|token| token.expose()), Some("hf_secret"));
    assert!(!settings.show().contains("hf_secret"));
    let origin = settings.effective.entry("hub.endpoint").and_then(|entry| entry.origin.clone());
    assert_eq!(origin.as_deref(), Some("environment variable HF_ENDPOINT"));
    let layers = Layers::default()
        .with_text("f", "[hub]\nendpoint = 'https://named'\noffline = false\n")
        .with_environment(variables);
    let settings = Settings::load(layers).unwrap();
    assert_eq!((settings.hub.endpoint.as_str(), settings.hub.offline), ("https://named", false));
    // A wrong one is the hub's to refuse, where one is used; ours is always.
    let wrong = [("HF_ENDPOINT", "mirror")];
    assert_eq!(Settings::load(Layers::default().with_environment(wrong)).unwrap().hub.endpoint, "mirror");
    let ours = Layers::default().with_environment(wrong).with_flag("--set", "hub.endpoint=mirror");
    assert!(Settings::load(ours).unwrap_err().to_string().contains("hub.endpoint"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let found = problems(Layers::default().with_file("/nowhere/worker.toml".into(), "--config"));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].found.as_deref(), Some("\"/nowhere/worker.toml\""));
    assert_eq!(found[0].origin.as_deref(), Some("--config"));
}

#[test]
fn providers_and_their_options_come_from_every_layer() {
    let layers = Layers::default()
        .with_text(
            "f",
            "[clip]\nproviders = ['tensorrt:preferred', 'cuda', 'cpu']\ndevice_ids = [0, 1]\n\
             [clip.cuda]\nmemory_bytes_max = 4294967296\narena = 'as_requested'\n[clip.tensorrt]\nimage_batches = [1, 8]\n",
        )
        .with_environment([
            ("CLIPSTREAM__CLIP__CUDA__TF32", "true"),
            ("CLIPSTREAM__CLIP__TENSORRT__TEXT_LENGTHS", "8, 24"),
        ])
        .with_flag("--set", "clip.tensorrt.cache_directory=/cache")
        .with_flag("--set", "clip.precision=fp16");
    let settings = Settings::load(layers).unwrap();
    let clip = &settings.clip;
    assert_eq!(
        clip.providers,
        [
            ProviderEntry::preferred(Provider::TensorRt),
            ProviderEntry::required(Provider::Cuda),
            ProviderEntry::required(Provider::Cpu)
        ]
    );
    assert_eq!((&clip.device_ids[..], clip.precision), (&[0, 1][..], crate::domain::Precision::Fp16));
    let cuda = CudaSettings { memory_bytes_max: 4_294_967_296, arena: Arena::AsRequested, tf32: true };
    assert_eq!(clip.cuda, cuda);
    assert_eq!((&clip.tensorrt.image_batches[..], &clip.tensorrt.text_lengths[..]), (&[1, 8][..], &[8, 24][..]));
    assert_eq!(clip.tensorrt.cache_directory.as_deref(), Some(std::path::Path::new("/cache")));
    let entry = settings.effective.entry("clip.cuda.tf32").unwrap();
    assert_eq!(entry.origin.as_deref(), Some("environment variable CLIPSTREAM__CLIP__CUDA__TF32"));
    // Shown so that it loads again.
    let again = Settings::load(Layers::default().with_text("g", &settings.show())).unwrap();
    assert_eq!((again.clip.cuda, again.clip.tensorrt), (settings.clip.cuda, settings.clip.tensorrt));
}

#[test]
fn problems_of_providers_are_reported_together() {
    let found = problems(
        Layers::default()
            .with_text(
                "f",
                "[clip]\nproviders = ['cpu', 'cuda:prefered', 'rocm']\ndevice_ids = [0, 'x']\nprecision = 'fp8'\n\
                 openvino = 'CPU'\n[clip.cuda]\nmemory = 1\nmemory_bytes_max = '4 GiB'\ntf32 = 1\n\
                 [clip.tensorrt]\nimage_batches = [8, 4]\n",
            )
            .with_flag("--set", "clip.coreml.compute_units=neural"),
    );
    assert_eq!(
        hints(&found),
        [
            ("clip.precision", ""),
            ("clip.providers", "did you mean preferred?"),
            ("clip.providers", "AMD GPUs: migraphx"),
            ("clip.device_ids", ""),
            ("clip.cuda.memory_bytes_max", "write it without a unit: 4294967296"),
            ("clip.cuda.tf32", ""),
            ("clip.cuda.memory", "did you mean clip.cuda.memory_bytes_max?"),
            ("clip.openvino", ""),
            ("clip.coreml.compute_units", ""),
            ("clip.tensorrt.image_batches", ""),
        ]
    );
    let order = of_toml("[clip]\nproviders = ['cpu', 'cuda']\ndevice_ids = [1, 1]\n");
    let said: Vec<_> = order.iter().map(|p| (p.key.as_str(), p.expected.as_str())).collect();
    assert_eq!(said, [("clip.providers", "cpu last"), ("clip.device_ids", "every device once; 1 is listed twice")]);
}

#[test]
fn towers_and_decoders_may_each_use_every_core() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let clip = |text: &str| Settings::load(Layers::default().with_text("f", text)).unwrap().clip;
    let default = clip("");
    assert_eq!((default.intra_op_threads(), default.preprocess_threads()), (cores, cores));
    let set = clip("[clip]\nintra_op_threads = 3\npreprocess_threads = 5\n");
    assert_eq!((set.intra_op_threads(), set.preprocess_threads()), (3, 5));
    assert_eq!(set.beyond(4), ["clip.preprocess_threads is 5, and this process may use 4 cores"]);
    assert_eq!((set.beyond(5).len(), set.beyond(2).len(), default.beyond(1).len()), (0, 2, 0));
}
