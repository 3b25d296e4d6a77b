//! Names of assets and tenants, and the point ids that follow from them. Both names are checked once, when they are made.

use std::fmt;

use uuid::Uuid;

/// Namespace of our UUIDv5 point ids (RFC 9562 §5.5): UUIDv5 of the DNS namespace and `clipstream.point`.
/// Changing it would duplicate every point of every collection.
const POINT_NAMESPACE: Uuid = Uuid::from_u128(0x476b_af26_2e43_5e6f_9e9b_a105_f42a_a14f);

/// The catalog's own name of an asset, for example `sku-1/photo-2`: 1 to [`AssetId::BYTES_MAX`] bytes, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AssetId(String);

impl AssetId {
    /// Longest accepted id in bytes; longer ones are nearly always a payload in the wrong field.
    pub const BYTES_MAX: usize = 1024;

    pub fn new(id: impl Into<String>) -> Result<Self, InvalidAssetId> {
        let id = id.into();
        if id.is_empty() {
            Err(InvalidAssetId::Empty)
        } else if id.len() > Self::BYTES_MAX {
            Err(InvalidAssetId::TooLong { bytes: id.len() })
        } else if let Some(found) = id.chars().find(|c| c.is_control()) {
            Err(InvalidAssetId::Control { found })
        } else {
            Ok(Self(id))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AssetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAssetId {
    #[error("is empty; expected 1 to {} bytes", AssetId::BYTES_MAX)]
    Empty,
    #[error("has {bytes} bytes; expected at most {}", AssetId::BYTES_MAX)]
    TooLong { bytes: usize },
    #[error("has the control character {found:?}; expected printable text")]
    Control { found: char },
}

/// Whose asset it is, where several customers share a collection. Same rules as [`AssetId`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(AssetId);

impl Tenant {
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidAssetId> {
        AssetId::new(name).map(Self)
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Id of a point in every collection: UUIDv5 over tenant and asset id, so that a replay overwrites and never duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PointId(Uuid);

impl PointId {
    pub fn of(tenant: Option<&Tenant>, asset: &AssetId) -> Self {
        // NUL cannot occur in either part, so no two pairs share a name.
        let name = format!("{}\0{}", tenant.map_or("", Tenant::as_str), asset);
        Self(Uuid::new_v5(&POINT_NAMESPACE, name.as_bytes()))
    }

    pub fn as_uuid(&self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for PointId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_is_what_its_doc_says() {
        assert_eq!(POINT_NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"clipstream.point"));
    }

    #[test]
    fn point_ids_are_stable_and_tenants_apart() {
        let asset = AssetId::new("sku-1/photo-2").unwrap();
        let tenant = Tenant::new("acme").unwrap();
        assert_eq!(PointId::of(None, &asset), PointId::of(None, &asset));
        assert_ne!(PointId::of(None, &asset), PointId::of(Some(&tenant), &asset));
    }

    #[test]
    fn bad_ids_say_what_was_found() {
        assert_eq!(AssetId::new(""), Err(InvalidAssetId::Empty));
        assert_eq!(AssetId::new("a\0b"), Err(InvalidAssetId::Control { found: '\0' }));
        assert_eq!(AssetId::new("x".repeat(1025)), Err(InvalidAssetId::TooLong { bytes: 1025 }));
    }
}
