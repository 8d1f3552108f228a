use std::sync::Arc;

use super::super::entry::tests::entry;
use super::super::history::Look;
use super::*;
use crate::reason::Reason;

fn now() -> Timestamp {
    "2026-03-01T12:34:56Z".parse().unwrap_or_default()
}

fn about() -> About {
    About { identity: "operator-1".to_owned(), namespace: "system".to_owned(), lease: "lease-1".to_owned() }
}

fn ready(status: &str, reason: Reason, message: &str) -> Entry {
    entry(&[(ConditionType::Ready, status, reason, message)], None)
}

fn whole(asked: &PageQuery, all: &[Shown<'_>]) -> String {
    page(&about(), Role::Leading, asked, all, now())
}

fn order(page: &str) -> Vec<&str> {
    page.split("<article id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn what_needs_attention_comes_first_and_the_summary_counts() {
    let (fine, failing) =
        (ready("True", Reason::Idle, "Empty."), ready("False", Reason::AccessDenied, "Denied: allow it."));
    let (starting, parked) = (ready("Unknown", Reason::ConsumersStarting, "They start."), {
        let mut parked = ready("True", Reason::Running, "It runs.");
        Arc::make_mut(&mut parked.status).parked = Some(4);
        parked
    });
    let all =
        [("a", "fine", &fine), ("a", "starting", &starting), ("b", "failing", &failing), ("b", "parked", &parked)];
    let page = whole(&PageQuery::default(), &all);
    assert_eq!(order(&page), ["b/failing", "b/parked", "a/starting", "a/fine"]);
    assert!(page.contains(">4 pipelines: 1 needs attention, 1 worth a look, 1 not known yet, 1 fine.</p>"), "{page}");
    for expected in ["Denied: allow it.", "kubectl -n b describe imgp failing", "4 messages wait", "AccessDenied"] {
        assert!(page.contains(expected), "{expected}");
    }
}

#[test]
fn the_page_has_everything_in_itself_and_a_value_is_never_markup() {
    let hostile = "<script>alert(1)</script>\"><img src=x>";
    let mut entry = ready("False", Reason::AccessDenied, hostile);
    if let Some(flow) = entry.flow.as_mut() {
        (flow.queue, flow.bucket) = (hostile.to_owned(), hostile.to_owned());
    }
    let asked = PageQuery { find: "\"><script>".to_owned(), from: 0 };
    for asked in [PageQuery::default(), asked] {
        let page = whole(&asked, &[("a", "tiles", &entry)]);
        for outside in ["http://", "https://", "src=\"", "@import", "url(", "<script>alert", "<img", "\"><script>"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<script>").count(), 1, "only the page's own script");
        assert!(!page.contains(" style=") && !page.contains(" onclick="), "the policy would refuse it");
    }
}

#[test]
fn pipelines_are_found_by_what_one_knows_of_them() {
    let (fine, failing) = (ready("True", Reason::Idle, "Empty."), ready("False", Reason::AccessDenied, "Denied."));
    let all = [("greench", "oak", &fine), ("nursery", "pine", &failing)];
    let found = |find: &str| {
        let asked = PageQuery { find: find.to_owned(), from: 0 };
        order(&whole(&asked, &all)).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(found("GREENCH"), ["greench/oak"]);
    assert_eq!(found("pin"), ["nursery/pine"]);
    assert_eq!(found("accessdenied "), ["nursery/pine"]);
    assert_eq!(found("forest"), ["nursery/pine", "greench/oak"], "the bucket");
    assert_eq!(found("birch"), [""; 0]);
    let page = whole(&PageQuery { find: "birch".to_owned(), from: 0 }, &all);
    assert!(page.contains("No namespace, name, queue") && page.contains("2 pipelines: "), "{page}");
}

#[test]
fn many_pipelines_are_shown_fifty_at_a_time() {
    let fine = ready("True", Reason::Idle, "Empty.");
    let names: Vec<String> = (0..120).map(|number| format!("tiles-{number:03}")).collect();
    let all: Vec<Shown<'_>> = names.iter().map(|name| ("a", name.as_str(), &fine)).collect();
    let page_from = |from| whole(&PageQuery { find: "tiles".to_owned(), from }, &all);
    let [first, second, last] = [page_from(0), page_from(50), page_from(100)];
    assert_eq!([&first, &second, &last].map(|page| order(page).len()), [50, 50, 20]);
    assert_eq!(order(&second).first(), Some(&"a/tiles-050"));
    assert!(first.contains("href=\"?find=tiles&amp;from=50\"") && !first.contains("Previous"));
    assert!(second.contains("from=0\"") && second.contains("from=100\""));
    assert!(last.contains("from=50\"") && !last.contains("Next"));
    assert_eq!(order(&page_from(usize::MAX)).len(), 0);
}

#[test]
fn an_hour_is_told_in_words_and_in_a_table_as_well() {
    let mut entry = ready("True", Reason::Running, "It runs.");
    let pods = |stored| vec![("pod".to_owned(), Some(stored))];
    let look = |backlog, stored| Look { backlog, parked: Some(3), desired: 6, ready: 4, pods: pods(stored) };
    for (minutes, look) in [(9, look(Some(300), 0)), (8, look(Some(200), 40)), (0, look(None, 100))] {
        entry.history.add(&look, now() - jiff::SignedDuration::from_mins(minutes));
    }
    let status = Arc::make_mut(&mut entry.status);
    (status.ready_replicas, status.desired_replicas) = (4, 6);
    let page = whole(&PageQuery::default(), &[("a", "tiles", &entry)]);
    for expected in [
        "aria-label=\"Waiting over the last hour: unknown; at most 300; known for 2 of 60 minutes\"",
        "aria-label=\"Consumers over the last hour: 4 of 6 ready; at most 6; known for 3 of 60 minutes\"",
        "aria-label=\"Stored/min over the last hour: 100 this hour; at most 60; known for 3 of 60 minutes\"",
        "<tr><th scope=\"row\">12:34</th><td>unknown</td><td>6</td><td>4</td><td>60</td><td>3</td></tr>",
        "<tr><th scope=\"row\">12:25</th><td>300</td><td>6</td><td>4</td><td>0</td><td>3</td></tr>",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
}

#[test]
fn where_there_is_nothing_to_show_the_page_says_why_and_what_to_do() {
    let page = |work| page(&about(), work, &PageQuery::default(), &[], now());
    assert!(page(Role::Waiting).contains("kubectl -n system get lease lease-1"));
    assert!(page(Role::Waiting).contains("This operator waits"));
    assert!(page(Role::Listing).contains("is reading the pipelines"));
    assert!(page(Role::Leading).contains("No ImagePipeline exists"));
    assert!(page(Role::Leading).contains(">0 pipelines.</p>"));
}
