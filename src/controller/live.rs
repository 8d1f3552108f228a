//! Watched objects, reduced to what the operator reads as soon as they are parsed. Users who may create objects decide
//! how large they are: a Deployment with our labels may carry 256 KiB of annotations. Also without that, a pod as the API
//! server sends it takes ten times the memory of what is read of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;

use super::Guarded;
use crate::api::names;

mod deployment;
mod pod;

pub use deployment::LiveDeployment;
pub use pod::LivePod;

/// The longest annotation that is kept, in bytes. Those that the operator writes are shorter.
const ANNOTATION_BYTES: usize = 1 << 10;

/// Makes a reduced object a resource of Kubernetes, under the path of the whole one.
macro_rules! reduced {
    ($reduced:ty, $whole:ty) => {
        impl Resource for $reduced {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                <$whole>::kind(&())
            }

            fn group((): &()) -> Cow<'_, str> {
                <$whole>::group(&())
            }

            fn version((): &()) -> Cow<'_, str> {
                <$whole>::version(&())
            }

            fn plural((): &()) -> Cow<'_, str> {
                <$whole>::plural(&())
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

reduced!(LivePod, Pod);
reduced!(LiveDeployment, Deployment);

/// Leaves the spec, the status and the annotation that pins the image.
pub fn pipeline(pipeline: &mut Guarded) {
    let meta = pipeline.meta_mut();
    let annotations = only(meta.annotations.take(), |name| name == names::PIN_ANNOTATION);
    *meta = ObjectMeta { annotations, labels: None, owner_references: None, ..kept(std::mem::take(meta)) };
}

/// Leaves a Secret's name and version. Its data is not watched; the annotation last-applied-configuration may hold it.
pub fn secret(secret: &mut PartialObjectMeta<Secret>) {
    secret.metadata = identity(&secret.metadata);
}

/// What identifies an object and its version.
fn identity(meta: &ObjectMeta) -> ObjectMeta {
    let ObjectMeta { name, namespace, uid, resource_version, deletion_timestamp, .. } = meta.clone();
    ObjectMeta { name, namespace, uid, resource_version, deletion_timestamp, ..ObjectMeta::default() }
}

/// Metadata with the labels and annotations that the operator reads or writes, and the owner that controls the object.
fn kept(meta: ObjectMeta) -> ObjectMeta {
    let labels = names::labels("");
    let mut owners = meta.owner_references;
    owners.iter_mut().for_each(|owners| owners.retain(|owner| owner.controller == Some(true)));
    ObjectMeta {
        owner_references: owners,
        labels: only(meta.labels, |name| labels.contains_key(name)),
        annotations: only(meta.annotations, |name| name == names::SPEC_ANNOTATION),
        managed_fields: None,
        finalizers: None,
        ..meta
    }
}

fn only(texts: Option<BTreeMap<String, String>>, reads: impl Fn(&str) -> bool) -> Option<BTreeMap<String, String>> {
    let mut texts = texts?;
    texts.retain(|name, text| reads(name) && text.len() <= ANNOTATION_BYTES);
    Some(texts)
}

fn shortened(mut text: String, bytes: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes));
    text
}

#[cfg(test)]
mod tests;
