//! What an actor may read and write, as one function, and what directives ask for within it. Not responsible for: the
//! request that is sent to BuildKit.

use std::fmt;

use super::namespace::{ActorId, Namespace, Workspace};
use crate::domain::model::CachePolicy;

/// Build arguments of BuildKit's own that choose no cache, no frontend and no image.
pub const HARMLESS_ARGUMENTS: [&str; 4] = [
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
];

/// Who asks, as far as namespaces go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// CI.
    Ci,
    /// A helping job of CI.
    CiAux,
    /// A person or an agent.
    Session(ActorId),
}

/// How a reference is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefUse {
    /// Something is taken from it.
    Read,
    /// Something is put there.
    Write,
}

/// A reference that an actor may not use so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForbiddenRef {
    /// The reference, as it was given.
    pub reference: String,
    /// What was wanted of it.
    pub wanted: RefUse,
}

/// A namespace, or one repository in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRef {
    namespace: Namespace,
    /// All of the namespace where there is none.
    repository: Option<String>,
}

/// What is read and written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// What is read, in the order in which it is looked at.
    pub reads: Vec<CacheRef>,
    /// What is written.
    pub writes: Vec<CacheRef>,
}

impl CacheRef {
    fn whole(namespace: Namespace) -> Self {
        Self { namespace, repository: None }
    }

    /// The repository of the cache of a workspace's image in it: `ci/shop/app-cache`. A library has caches of images of its
    /// own, which are named one by one.
    pub fn cache_of(&self, image: &str, of: &Workspace) -> Option<String> {
        let own = || self.namespace.repository(format!("{image}-cache"));
        self.repository.clone().or_else(|| (self.namespace.workspace() == of).then(own))
    }

    fn holds(&self, repository: &str) -> bool {
        self.namespace.holds(repository) && self.repository.as_ref().is_none_or(|only| only == repository)
    }
}

impl fmt::Display for CacheRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.repository {
            Some(repository) => f.pad(repository),
            None => write!(f, "{}", self.namespace),
        }
    }
}

impl Access {
    /// All that an actor may use for a workspace, with these libraries.
    pub fn of(identity: &Identity, workspace: &Workspace, libraries: &[Workspace]) -> Self {
        let mut reads = vec![Namespace::Ci(workspace.clone())];
        for library in libraries.iter().filter(|library| *library != workspace) {
            let namespace = Namespace::Ci(library.clone());
            if !reads.contains(&namespace) {
                reads.push(namespace);
            }
        }
        let own = match identity {
            Identity::Ci => Namespace::Ci(workspace.clone()),
            Identity::CiAux => Namespace::Aux(workspace.clone()),
            Identity::Session(actor) => {
                let own = Namespace::Dev(actor.clone(), workspace.clone());
                reads.push(own.clone());
                own
            }
        };
        let whole = |namespaces: Vec<Namespace>| namespaces.into_iter().map(CacheRef::whole).collect();
        Self { reads: whole(reads), writes: whole(vec![own]) }
    }

    /// What a policy asks for of this: all, where it says nothing. Every reference that is not within it is told.
    pub fn asked(self, policy: &CachePolicy) -> Result<Self, Vec<ForbiddenRef>> {
        let mut forbidden = Vec::new();
        let mut chosen = |asked: Option<&Vec<String>>, wanted, all: &Vec<CacheRef>| {
            let Some(asked) = asked else { return all.clone() };
            let found = asked.iter().filter_map(|reference| {
                let found = self.find(reference, wanted);
                if found.is_none() {
                    forbidden.push(ForbiddenRef { reference: reference.clone(), wanted });
                }
                found
            });
            found.collect()
        };
        let reads = chosen(policy.reads.as_ref(), RefUse::Read, &self.reads);
        let writes = chosen(policy.writes.as_ref(), RefUse::Write, &self.writes);
        if forbidden.is_empty() { Ok(Self { reads, writes }) } else { Err(forbidden) }
    }

    /// Whether a repository, without registry and tag, may be used so. What is written may be read.
    pub fn allows(&self, repository: &str, wanted: RefUse) -> bool {
        self.usable(wanted).any(|one| one.holds(repository))
    }

    /// All that may be used so, each once.
    pub fn usable(&self, wanted: RefUse) -> impl Iterator<Item = &CacheRef> {
        let read = self.reads.iter().filter(move |_| wanted == RefUse::Read);
        read.chain(self.writes.iter().filter(move |one| wanted == RefUse::Write || !self.reads.contains(one)))
    }

    /// A namespace or a repository of this, by its text.
    fn find(&self, reference: &str, wanted: RefUse) -> Option<CacheRef> {
        let named = self.usable(wanted).find(|one| one.to_string() == reference).cloned();
        named.or_else(|| {
            let holder = self.usable(wanted).find(|one| one.holds(reference))?;
            Some(CacheRef { namespace: holder.namespace.clone(), repository: Some(reference.to_owned()) })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::model::Actor;

    fn workspace(text: &str) -> Workspace {
        Workspace::parse(text).expect("a name")
    }

    fn session(text: &str) -> Identity {
        Identity::Session(ActorId::parse(text).expect("a name"))
    }

    fn shown(refs: &[CacheRef]) -> Vec<String> {
        refs.iter().map(ToString::to_string).collect()
    }

    fn policy(actor: Actor) -> CachePolicy {
        CachePolicy { actor, disposition: None, reads: None, writes: None }
    }

    #[test]
    fn the_table_is_this() {
        let of = |identity: &Identity| {
            let access = Access::of(identity, &workspace("shop"), &[workspace("lamina"), workspace("shop")]);
            (shown(&access.reads), shown(&access.writes))
        };
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        assert_eq!(of(&Identity::Ci), (texts(&["ci/shop", "ci/lamina"]), texts(&["ci/shop"])));
        assert_eq!(of(&Identity::CiAux), (texts(&["ci/shop", "ci/lamina"]), texts(&["ci/shop/aux"])));
        assert_eq!(of(&session("jpl")), (texts(&["ci/shop", "ci/lamina", "dev/jpl-shop"]), texts(&["dev/jpl-shop"])));
    }

    #[test]
    fn helping_jobs_write_a_part_that_ci_does_not_read() {
        let ci = Access::of(&Identity::Ci, &workspace("shop"), &[]);
        let aux = Access::of(&Identity::CiAux, &workspace("shop"), &[]);
        let theirs = "ci/shop/aux/app-cache";
        assert!(!ci.allows(theirs, RefUse::Read) && !ci.allows(theirs, RefUse::Write));
        assert!(aux.allows(theirs, RefUse::Read) && aux.allows(theirs, RefUse::Write));
        assert!(aux.allows("ci/shop/app", RefUse::Read) && !aux.allows("ci/shop/app", RefUse::Write));
        // A layer may be called so.
        assert!(ci.allows("ci/shop/aux", RefUse::Write) && !aux.allows("ci/shop/aux", RefUse::Write));
    }

    #[test]
    fn a_policy_narrows_and_everything_beyond_is_told() {
        let own = || Access::of(&Identity::Ci, &workspace("shop"), &[workspace("lamina")]);
        let mut asked = policy(Actor::Ci);
        asked.reads = Some(vec!["ci/lamina/rust-cache".to_owned(), "ci/shop".to_owned()]);
        asked.writes = Some(Vec::new());
        let narrowed = own().asked(&asked).expect("it is within");
        assert_eq!(shown(&narrowed.reads), ["ci/lamina/rust-cache", "ci/shop"]);
        assert!(narrowed.allows("ci/lamina/rust-cache", RefUse::Read));
        assert!(!narrowed.allows("ci/lamina/other", RefUse::Read) && !narrowed.allows("ci/shop/app", RefUse::Write));
        let beyond = [
            "dev/jpl-shop",
            "dev/jpl-shop/app",
            "ci",
            "ci/",
            "ci/shopping",
            "ci/shop/../../dev/a-b/c",
            "ci/shop//app",
            "ci/Shop/app",
            "ci/ѕhop/app",
            "ci/shop/app:tag",
            "registry.example/ci/shop/app",
            "",
            "/ci/shop/app",
            "ci/shop/",
        ];
        asked.reads = Some(beyond.map(str::to_owned).to_vec());
        asked.writes = Some(vec!["ci/lamina".to_owned()]);
        let told = own().asked(&asked).expect_err("they are beyond");
        assert_eq!(told.len(), beyond.len() + 1);
        assert_eq!(told.last().map(|one| (one.reference.as_str(), one.wanted)), Some(("ci/lamina", RefUse::Write)));
    }

    fn names() -> impl Strategy<Value = String> {
        "[a-c0](([._-])?[a-c0]){0,5}"
    }

    fn identities() -> impl Strategy<Value = Identity> {
        let id = names().prop_map(|name| session(&name));
        prop_oneof![Just(Identity::Ci), Just(Identity::CiAux), id]
    }

    proptest! {
        /// Whoever is not the same actor on the same workspace writes nothing of it, and reads no session of another.
        #[test]
        fn nobody_writes_what_another_writes_and_no_session_is_read(
            (one, at) in (identities(), names()),
            (other, there) in (identities(), names()),
            library in names(),
            image in names(),
        ) {
            prop_assume!((&one, &at) != (&other, &there));
            let access = |identity: &Identity, at: &str| Access::of(identity, &workspace(at), &[workspace(&library)]);
            let (mine, theirs) = (access(&one, &at), access(&other, &there));
            let repository = format!("{}/{image}", mine.writes[0]);
            prop_assert!(mine.allows(&repository, RefUse::Write));
            // A layer of CI that is called `aux` has no repository below it.
            prop_assert!(!theirs.allows(&repository, RefUse::Write), "{} {}", repository, theirs.writes[0]);
            if matches!(one, Identity::Session(_)) {
                prop_assert!(!theirs.allows(&repository, RefUse::Read));
            }
        }

        /// What a policy is given lies within what the actor may use, whatever it asks for.
        #[test]
        fn no_policy_gets_more_than_the_table_has(
            identity in identities(),
            asked in proptest::collection::vec("(ci|dev)/[a-c0./_-]{0,12}", 0..4),
            repository in "(ci|dev)/[a-c0./_-]{0,12}",
        ) {
            let all = Access::of(&identity, &workspace("a"), &[workspace("b")]);
            let mut wanted = policy(Actor::Ci);
            (wanted.reads, wanted.writes) = (Some(asked.clone()), Some(asked));
            if let Ok(given) = all.clone().asked(&wanted) {
                for how in [RefUse::Read, RefUse::Write] {
                    prop_assert!(!given.allows(&repository, how) || all.allows(&repository, how));
                }
            }
        }

        /// Two names are two namespaces, and each repository of a namespace is one that registries take.
        #[test]
        fn different_names_are_different_namespaces(a in names(), b in names(), c in names(), d in names()) {
            let of = |actor: &str, at: &str| {
                Namespace::Dev(ActorId::parse(actor).expect("a name"), workspace(at)).repository("x")
            };
            prop_assert_eq!(of(&a, &b) == of(&c, &d), (a, b) == (c, d));
        }
    }
}
