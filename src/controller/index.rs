//! Finds objects by what they name, without a walk over all objects: pods by their pipeline, pipelines by their
//! Secrets. Objects and what they name are in one namespace.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::watcher::{self, Event};
use parking_lot::Mutex;

/// Namespace and name.
type Key = (String, String);

/// Clones share it.
#[derive(Clone, Default)]
pub struct Index(Arc<Mutex<Edges>>);

#[derive(Default)]
struct Edges {
    /// The names of the objects that name a key.
    objects: HashMap<Key, BTreeSet<String>>,
    /// The names that each object names.
    named: HashMap<Key, Vec<String>>,
    /// The objects that a list in progress has not shown so far.
    unlisted: HashSet<Key>,
}

impl Index {
    /// The names of the objects that name `name`.
    pub fn naming(&self, namespace: &str, name: &str) -> Vec<String> {
        let key = (namespace.to_owned(), name.to_owned());
        self.0.lock().objects.get(&key).into_iter().flatten().cloned().collect()
    }

    /// An observer for a watch. It belongs after `reflect`, which fills the store. `names`: what an object names.
    pub fn follow<K: ResourceExt, F: Fn(&K) -> Vec<String> + Send>(
        &self,
        names: F,
    ) -> impl FnMut(&watcher::Result<Event<K>>) + Send + use<K, F> {
        let state = Arc::clone(&self.0);
        move |event| {
            let mut state = state.lock();
            match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => state.set(key_of(object), names(object)),
                Ok(Event::Delete(object)) => state.remove(&key_of(object)),
                Ok(Event::Init) => state.unlisted = state.named.keys().cloned().collect(),
                Ok(Event::InitDone) => {
                    let gone = std::mem::take(&mut state.unlisted);
                    gone.iter().for_each(|key| state.remove(key));
                }
                Err(_) => {}
            }
        }
    }
}

impl Edges {
    fn set(&mut self, object: Key, names: Vec<String>) {
        self.unlisted.remove(&object);
        if self.named.get(&object) == Some(&names) {
            return;
        }
        self.remove(&object);
        for name in &names {
            self.objects.entry((object.0.clone(), name.clone())).or_default().insert(object.1.clone());
        }
        self.named.insert(object, names);
    }

    fn remove(&mut self, object: &Key) {
        for name in self.named.remove(object).into_iter().flatten() {
            let key = (object.0.clone(), name);
            if let Some(objects) = self.objects.get_mut(&key) {
                objects.remove(&object.1);
                if objects.is_empty() {
                    self.objects.remove(&key);
                }
            }
        }
    }
}

fn key_of(object: &impl ResourceExt) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn object(namespace: &str, name: &str, names: &[&str]) -> ConfigMap {
        let labels = names.iter().map(|name| ((*name).to_owned(), String::new())).collect();
        let (namespace, name) = (Some(namespace.to_owned()), Some(name.to_owned()));
        ConfigMap {
            metadata: ObjectMeta { namespace, name, labels: Some(labels), ..ObjectMeta::default() },
            ..ConfigMap::default()
        }
    }

    fn labels(object: &ConfigMap) -> Vec<String> {
        object.labels().keys().cloned().collect()
    }

    #[test]
    fn follows_what_a_watch_says() {
        let index = Index::default();
        let mut follow = index.follow(labels);
        let found = |name| index.naming("forest", name);
        for event in [
            Event::Init,
            Event::InitApply(object("forest", "one", &["oak", "pine"])),
            Event::InitApply(object("forest", "two", &["pine"])),
            Event::InitApply(object("meadow", "one", &["pine"])),
            Event::InitDone,
        ] {
            follow(&Ok(event));
        }
        assert_eq!((found("oak"), found("pine")), (vec!["one".to_owned()], vec!["one".to_owned(), "two".to_owned()]));
        follow(&Ok(Event::Apply(object("forest", "one", &["oak", "elm"]))));
        assert_eq!((found("pine"), found("elm")), (vec!["two".to_owned()], vec!["one".to_owned()]));
        follow(&Ok(Event::Delete(object("forest", "two", &[]))));
        assert_eq!(found("pine"), [""; 0]);
        assert_eq!(index.naming("meadow", "pine"), ["one"]);
    }

    #[test]
    fn what_a_new_list_does_not_have_is_gone_at_its_end() {
        let index = Index::default();
        let mut follow = index.follow(labels);
        for name in ["one", "two"] {
            follow(&Ok(Event::Apply(object("forest", name, &["pine"]))));
        }
        follow(&Ok(Event::Init));
        follow(&Ok(Event::InitApply(object("forest", "two", &["pine"]))));
        assert_eq!(index.naming("forest", "pine").len(), 2, "the list is not complete");
        follow(&Ok(Event::InitDone));
        assert_eq!(index.naming("forest", "pine"), ["two"]);
        assert_eq!(index.0.lock().named.len(), 1);
    }
}
