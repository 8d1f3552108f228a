//! The message for each fault names the field to correct, and no other cause.

use super::*;

#[tokio::test]
async fn a_redirect_names_where_it_leads() {
    const HERE: &[(&str, &str)] = &[("x-amz-bucket-region", "us-east-1")];
    const THERE: &[(&str, &str)] = &[("x-amz-bucket-region", "eu-west-1"), ("location", "https://b.s3.example/x")];
    const TLS: &[(&str, &str)] =
        &[("location", "https://s3.forest.example/bucket-greench/tiles/north/tile%207.png?t=1")];
    const PORT: &[(&str, &str)] = &[("location", "https://login.forest.example:8443/?next=tile%207")];
    const PATH: &[(&str, &str)] = &[("location", "/login?next=tile%207")];
    let permanent = xml!("PermanentRedirect");
    let temporary = xml!("TemporaryRedirect");
    for (status, body, headers, reason, kind, says) in [
        (307, temporary, HERE, Reason::StorageUnavailable, Kind::Passing, "no action is needed"),
        (307, "", HERE, Reason::StorageUnavailable, Kind::Passing, "no action is needed"),
        (307, temporary, &[][..], Reason::StorageUnavailable, Kind::Passing, "no action is needed"),
        (307, temporary, THERE, Reason::WrongRegion, Kind::Environment, "set destination.s3.region to \"eu-west-1\""),
        (
            301,
            permanent,
            HERE,
            Reason::StorageRefused,
            Kind::Environment,
            "correct destination.s3.endpoint, or remove it",
        ),
        (301, permanent, THERE, Reason::WrongRegion, Kind::Environment, "set destination.s3.region to \"eu-west-1\""),
        (
            301,
            "",
            TLS,
            Reason::StorageRefused,
            Kind::Environment,
            "redirects to https://s3.forest.example (HTTP 301); set",
        ),
        (
            308,
            "",
            TLS,
            Reason::StorageRefused,
            Kind::Environment,
            "redirects to https://s3.forest.example (HTTP 308); set",
        ),
        (
            307,
            "",
            TLS,
            Reason::StorageRefused,
            Kind::Environment,
            "redirects to https://s3.forest.example (HTTP 307); set",
        ),
        (302, "", PORT, Reason::StorageRefused, Kind::Environment, "to https://login.forest.example:8443 (HTTP 302)"),
        (302, "", PATH, Reason::StorageRefused, Kind::Environment, "redirects to itself (HTTP 302)"),
        (302, "", &[], Reason::StorageRefused, Kind::Environment, "redirects to itself (HTTP 302)"),
    ] {
        let error = refused(json!({}), status, body, headers).await;
        let text = error.to_string();
        assert_eq!((error.reason(), error.kind(), error.scope()), (reason, kind, Extent::Store), "{status}: {text}");
        assert!(text.contains(says), "{text:?} has {says:?}");
        assert!(!text.contains("tile") && !text.contains("next"), "{text:?} has neither path nor query");
    }
}

#[tokio::test]
async fn a_denial_names_the_permission() {
    let kms = xml!(
        "AccessDenied",
        "User: arn:aws:sts::1:assumed-role/tiles is not authorized to perform: kms:GenerateDataKey on resource: k"
    );
    let own = json!({ "serverSideEncryption": { "algorithm": "aws:kms", "kmsKeyId": "k" } });
    for (fields, says) in [
        (json!({}), "denies kms:GenerateDataKey on the key of the bucket's own encryption"),
        (own, "denies kms:GenerateDataKey on the key of destination.s3.serverSideEncryption"),
    ] {
        let error = refused(fields, 403, kms, &[]).await;
        assert_eq!(error.reason(), Reason::AccessDenied);
        assert!(error.to_string().contains(says), "{error}");
        assert!(!error.to_string().contains("s3:PutObject"), "{error}");
    }
}

#[tokio::test]
async fn object_lock_names_the_checksum() {
    let body = xml!(
        "InvalidRequest",
        "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
    );
    let error = refused(json!({}), 400, body, &[]).await;
    assert_eq!((error.reason(), error.kind()), (Reason::StorageRefused, Kind::Environment));
    assert!(error.to_string().contains("set destination.s3.checksum: CRC32"), "{error}");
}

#[tokio::test]
async fn a_name_that_is_not_resolved_is_named() {
    let looked_up = "the host \"bucket-greench.nowhere.invalid\" can't be resolved";
    for (path_style, says) in [
        (false, [looked_up, "destination.s3.forcePathStyle: true"]),
        (true, ["the host \"nowhere.invalid\" can't be resolved", "check destination.s3.endpoint"]),
    ] {
        let fields = json!({ "forcePathStyle": path_style });
        let error = put(&destination("http://nowhere.invalid:9000", fields)).await.unwrap_err();
        assert_eq!((error.reason(), error.kind()), (Reason::EndpointUnreachable, Kind::Passing), "{error}");
        assert!(says.iter().all(|says| error.to_string().contains(says)), "{error}");
    }
}

/// The CRD refuses this value. If it gets through, the message must not blame the endpoint.
#[tokio::test]
async fn a_line_break_in_metadata_is_no_fault_of_the_endpoint() {
    let endpoint = serve(recording(ok).0).await;
    let error = put(&destination(&endpoint, json!({ "metadata": { "site": "a\nb" } }))).await.unwrap_err();
    assert_eq!((error.reason(), error.kind()), (Reason::StorageRefused, Kind::Environment), "{error}");
    assert!(error.to_string().contains("metadata and cacheControl"), "{error}");
}
