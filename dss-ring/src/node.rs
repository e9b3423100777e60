//! What can stand on a ring.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;

/// A node of a ring. Its bytes are its identity: two nodes with the same bytes are one node.
///
/// The bytes go into the [hash rule](crate::rule), so they must be the same in every process and
/// in every release of the program: no pointer, no number whose meaning depends on the run. Strings
/// give their UTF-8, integers their big-endian bytes (which sort as the numbers do).
///
/// ```
/// use std::borrow::Cow;
///
/// #[derive(Clone)]
/// struct Server {
///     name: String,
///     rack: String,
///     address: std::net::SocketAddr,
/// }
///
/// impl dss_ring::RingNode for Server {
///     fn ring_bytes(&self) -> Cow<'_, [u8]> {
///         self.name.as_bytes().into() // it may change its address and keeps its keys
///     }
///
///     fn zone_bytes(&self) -> Cow<'_, [u8]> {
///         self.rack.as_bytes().into() // replicas go to different racks while there are some
///     }
/// }
/// ```
pub trait RingNode: Clone {
    /// The bytes that say which node this is.
    fn ring_bytes(&self) -> Cow<'_, [u8]>;

    /// The bytes that say in which zone it stands: a rack, a building, whatever fails as a whole.
    /// [Preference lists](crate::HashRing::preference_list) spread over the zones. Unless it is
    /// given, all nodes stand in one.
    fn zone_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&[])
    }
}

impl RingNode for &str {
    fn ring_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.as_bytes())
    }
}

impl RingNode for String {
    fn ring_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.as_bytes())
    }
}

impl RingNode for Arc<str> {
    fn ring_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.as_bytes())
    }
}

impl RingNode for u32 {
    fn ring_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.to_be_bytes().into())
    }
}

impl RingNode for u64 {
    fn ring_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.to_be_bytes().into())
    }
}
