//! What every store must do, checked through the port only: the embedded engine, and Qdrant over gRPC (the double of a server, or
//! one named by `CLIPSTREAM_TEST_QDRANT_URL`).

mod claims;
mod durability;
pub mod fixture;
mod guards;
mod index;
mod kept;
mod patches;
mod races;
mod refusals;
mod search;
mod writes;

/// Runs the checks against each kind of store. A check gets a store of its own, or on a shared server a collection of
/// its own.
macro_rules! for_each_store {
    ($($module:ident::$check:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                let fixture = super::fixture::Fixture::embedded().await;
                super::$module::$check(&fixture).await;
                fixture.end().await;
            })*
        }
        mod qdrant {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                let fixture = super::fixture::Fixture::qdrant().await;
                super::$module::$check(&fixture).await;
                fixture.end().await;
            })*
        }
    };
}

for_each_store!(
    writes::an_upsert_replaces_the_whole_point,
    writes::a_patch_keeps_what_it_does_not_mention,
    writes::a_patch_of_an_absent_point_creates_it,
    writes::image_and_text_patches_meet_in_one_point_in_either_order,
    writes::a_null_in_a_patch_removes_the_key,
    writes::records_merge_and_are_read_apart,
    writes::deletes_remove_and_repeat,
    writes::a_mixed_batch_of_a_thousand_is_applied_once_however_often_it_is_sent,
    writes::unusual_payloads_come_back_unchanged,
    guards::strict_refuses_what_is_older_and_applies_the_rest,
    guards::strict_orders_by_position_where_a_version_is_missing,
    guards::within_one_topic_the_offset_alone_decides,
    guards::offsets_that_come_again_under_another_leader_are_newer,
    guards::a_topic_that_was_made_anew_is_told_by_its_id,
    guards::requests_of_one_message_follow_each_other,
    guards::versions_beyond_the_exact_floats_are_told_apart,
    guards::without_strict_the_store_compares_nothing,
    guards::a_tombstone_holds_off_the_old_and_gives_way_to_the_new,
    guards::deletes_leave_tombstones_as_the_guard_says,
    guards::old_tombstones_are_purged,
    kept::a_patch_keeps_a_vector_of_a_point_that_is_there,
    kept::an_upsert_keeps_a_vector_and_replaces_all_else,
    kept::nothing_is_kept_of_what_is_absent_gone_or_different,
    races::the_highest_version_wins_among_racing_upserts,
    races::the_highest_version_wins_among_racing_patches_upserts_and_deletes,
    races::two_writers_of_one_hot_asset_both_get_through,
    races::patches_of_two_topics_under_one_version_both_hold,
    patches::payload_patches_of_racing_topics_all_hold,
    search::nearest_come_first_with_cosine_scores,
    search::filters_select_by_payload,
    search::vectors_of_the_other_modality_are_not_searched,
    search::points_of_tenants_are_counted_by_asset,
    search::scroll_visits_every_point_once_in_id_order,
    refusals::another_fingerprint_is_refused_with_every_difference,
    refusals::a_missing_collection_is_an_outage_and_named,
    refusals::bad_points_are_permanent,
    refusals::a_rejected_patch_leaves_nothing_behind,
    refusals::bad_filters_are_named,
    refusals::two_workers_may_create_at_once,
    refusals::an_alias_is_set_once_and_usable,
    refusals::close_is_idempotent_and_final,
);
