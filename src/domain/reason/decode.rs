//! Reasons of `format`: reading a message.

use super::reasons;

reasons! {
    /// Why a message cannot be read, or asks for something impossible.
    DecodeReason {
        MessageNotJson = "message_not_json", Permanent;
        MessageInvalid = "message_invalid", Permanent;
        /// In memory, not on the wire.
        MessageTooLarge = "message_too_large", Permanent;
        NestedTooDeep = "nested_too_deep", Permanent;
        IntegerOutOfRange = "integer_out_of_range", Permanent;
        FieldUnknown = "field_unknown", Permanent;
        FieldMissing = "field_missing", Permanent;
        FieldType = "field_type", Permanent;
        FieldInvalid = "field_invalid", Permanent;
        /// The payload has a key that is clipstream's own.
        PayloadReserved = "payload_reserved", Permanent, "rename the key";
        ModelNotConfigured = "model_not_configured", Permanent;
        TenantMissing = "tenant_missing", Permanent;
        TenantConflict = "tenant_conflict", Permanent;
        TenantUnknown = "tenant_unknown", Permanent;
    }
}
