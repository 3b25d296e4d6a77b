//! What a message may bring that nobody means well with: broken and oversized pictures, JSON that is legal and unusual,
//! URLs that point inwards. (The table of addresses is in `src/media/ssrf_tests/table.rs`, next to the policy.)

mod av1;
mod bombs;
mod costs;
mod formats;
mod kinds;
mod lossless;
mod memory;
mod messages;
mod mutate;
mod mutations;
mod peak;
mod proxies;
mod servers;
mod sizing;
mod truncation;
mod variants;
