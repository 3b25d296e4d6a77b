//! Reasons of `store`.

use super::reasons;

reasons! {
    /// Why the store did not do what it was asked for.
    StoreReason {
        /// Another writer changed the point. The message is processed again from its record.
        Conflict = "store_conflict", Transient;

        // It is busy.
        Busy = "store_busy", Transient;
        /// A smaller batch may be accepted.
        Limited = "store_limited", Transient,
            "where that is one point alone, raise the rate limits in the collection's strict mode";
        UpdateIncomplete = "store_update_incomplete", Transient;
        Timeout = "store_timeout", Outage, "check the server's load, or raise store.timeout_ms";

        // Points of the batch.
        Rejected = "store_rejected", Permanent;
        TooLarge = "store_too_large", Permanent,
            "where that is one point alone, make its payload smaller, or raise the server's limit or its proxy's";
        DuplicatePoint = "duplicate_point", Permanent;
        IntegerTooLarge = "payload_integer_too_large", Permanent;

        // The question.
        FilterInvalid = "filter_invalid", Permanent, "see Qdrant's documentation of filters in REST form";
        PathInvalid = "payload_path_invalid", Permanent;

        // This build.
        NotBuilt = "store_not_built", Outage,
            "set store.kind and store.url, or take a build with the cargo feature `embedded`";

        // The server.
        Unreachable = "store_unreachable", Outage, "check store.url and that the server runs";
        Unauthorized = "store_unauthorized", Outage, "check store.api_key and its rights (it must write)";
        Unsupported = "store_unsupported", Outage, "check that store.url is the gRPC port of Qdrant 1.17 or newer";
        VersionUnsupported = "store_version_unsupported", Outage;
        Failed = "store_failed", Outage;
        /// The server refuses the operation for every client.
        WritesRefused = "store_writes_refused", Outage,
            "see the server's log, and whether the collection's settings were changed";
        Full = "store_full", Outage,
            "raise that limit (the collection's strict mode, the server's quota), or make room";
        IndexMissing = "store_index_missing", Outage,
            "index that field (store.collection_definition), or set store.guard to check";
        AnswerInvalid = "store_answer_invalid", Outage;
        UrlInvalid = "store_url_invalid", Outage;
        SettingsInvalid = "store_settings_invalid", Outage;

        // The collection.
        CollectionMissing = "collection_missing", Outage, "index something first";
        CollectionDiffers = "collection_differs", Outage,
            "use the model that filled it, or another collection (store.catalog, store.collection_template)";
        CollectionNameInvalid = "collection_name_invalid", Outage;
        CollectionNameTaken = "collection_name_taken", Outage;
        DefinitionInvalid = "collection_definition_invalid", Outage;
        ForeignPoint = "foreign_point", Outage;
        FingerprintInvalid = "fingerprint_invalid", Outage;

        // The embedded store's files.
        Locked = "store_locked", Outage, "stop that clipstream, or set another store.path";
        Closed = "store_closed", Outage, "open it again";
        DiskFull = "store_disk_full", Outage, "make room there";
        FilesUnusable = "store_files_unusable", Outage, "check store.path, its permissions and free space";
        FormatUnknown = "store_format_unknown", Outage, "use the clipstream that wrote it, or another store.path";
        Panicked = "store_panicked", Outage, "check the free space of store.path";

        // Those who use it.
        CloseTimeout = "store_close_timeout", Outage;
        ReaderGone = "reader_gone", Outage;
        WriterGone = "writer_gone", Outage;
    }
}
