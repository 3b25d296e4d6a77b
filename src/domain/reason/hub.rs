//! Reasons of `hub`: pulling a model.

use super::reasons;

reasons! {
    /// Why a model could not be pulled. No failure of the hub is an outage: nothing waits for it.
    HubReason {
        SettingsInvalid = "hub_settings_invalid", Permanent;
        RepositoryInvalid = "hub_repository_invalid", Permanent;
        Offline = "hub_offline", Permanent, "unset it, or pull on a machine with a network and copy the folder";
        ClientFailed = "hub_client_failed", Permanent, "check the system's CA certificates and proxy variables";

        // The server's answer.
        Unreachable = "hub_unreachable", Transient;
        Busy = "hub_busy", Transient, "try again later";
        Unauthorized = "hub_unauthorized", Permanent;
        Gated = "hub_gated", Permanent;
        Forbidden = "hub_forbidden", Permanent, "check what the token (HF_TOKEN, hub.token) may read";
        NotFound = "hub_not_found", Permanent, "check the repository's name, --revision and hub.endpoint";
        RevisionMissing = "hub_revision_missing", Permanent, "check --revision";
        Status = "hub_status", Permanent, "check hub.endpoint";
        Redirect = "hub_redirect", Permanent, "check hub.endpoint";
        AnswerInvalid = "hub_answer_invalid", Permanent, "check that hub.endpoint is a hub's address";

        // What the repository has.
        FileMissing = "hub_file_missing", Permanent, "choose another --source, or export the model";
        PrecisionMissing = "hub_precision_missing", Permanent;
        LayoutUnknown = "hub_layout_unknown", Permanent, "export the model instead: tools/export_openclip.py";
        PinDiffers = "hub_pin_differs", Permanent,
            "do not use it before you know which; --source names another repository";

        // A file on its way.
        /// The server does not continue where the partial file ends.
        RangeInvalid = "hub_range_invalid", Transient;
        SizeWrong = "hub_size_wrong", Permanent;
        ChecksumWrong = "hub_checksum_wrong", Permanent, "check hub.endpoint and proxies";
        Encoding = "hub_encoding", Permanent, "check hub.endpoint and proxies";

        // Where it goes.
        DirectoryInvalid = "hub_directory_invalid", Permanent, "correct [clip] models";
        DirectoryTaken = "hub_directory_taken", Permanent;
        DiskFull = "disk_full", Permanent, "make room and run it again: what is there already is kept";
        DiskForbidden = "disk_forbidden", Permanent, "set clip.models_directory to a folder that can be written";
        DiskFailed = "disk_failed", Permanent, "check the disk and clip.models_directory";
    }
}

impl HubReason {
    /// Whether this repository is missing, may not be read, or lacks a needed file. Another repository may have the model.
    pub fn is_of_repository(self) -> bool {
        use HubReason::{FileMissing, Forbidden, Gated, NotFound, PrecisionMissing, Unauthorized};
        matches!(self, Unauthorized | Gated | Forbidden | NotFound | FileMissing | PrecisionMissing)
    }
}
