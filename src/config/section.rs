//! The macros that define a section and its choices once.

/// A section of the configuration: the struct, its [`Section`], and `read`,
/// which takes the values out of a [`Reading`].
///
/// An entry is the doc (for the help, the reference file and
/// docs/configuration.md), the key, the field and its type unless another
/// option replaces it, and the kind with the default.
///
/// [`Section`]: super::option::Section
/// [`Reading`]: super::reading::Reading
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        $vis:vis struct $name:ident {
            $( $(#[doc = $doc:literal])* $key:literal $($field:ident: $type:ty)? = $spec:expr; )*
        }
        $( with { $( $below:ident: $below_type:ty, )* } )?
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone)]
        $vis struct $name {
            $( $( #[doc = concat!("`", $key, "`")] pub $field: $type, )? )*
            $( $( #[doc = concat!("`[", stringify!($below), "]`")] pub $below: $below_type, )* )?
        }

        impl $name {
            pub(super) const SECTION: $crate::config::option::Section = $crate::config::option::Section {
                doc: concat!($($about, "\n"),*),
                options: &[$(
                    $crate::config::option::OptionSpec {
                        key: $key,
                        doc: concat!($($doc, "\n"),*),
                        ..$spec
                    },
                )*],
            };

            /// `None` when an option without a default is not set.
            #[allow(clippy::too_many_arguments, reason = "one for each section below")]
            pub(super) fn read(
                $( $( $below: Option<$below_type>, )* )?
                reading: &$crate::config::reading::Reading,
            ) -> Option<Self> {
                Some(Self {
                    $( $( $field: reading.get($key)?, )? )*
                    $( $( $below: $below?, )* )?
                })
            }
        }
    };
}

/// An enum of which each variant has a word in the configuration.
macro_rules! choice {
    (
        $(#[doc = $about:literal])*
        pub enum $name:ident {
            $( $(#[doc = $doc:literal])* $variant:ident = $word:literal, )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
        pub enum $name {
            $( $(#[doc = $doc])* #[serde(rename = $word)] $variant, )*
        }

        impl $name {
            /// All of them.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$variant),*];

            pub(super) const WORDS: &[&str] = &[$($word),*];

            /// Its word in the configuration.
            #[must_use]
            pub fn word(self) -> &'static str {
                Self::WORDS[self as usize]
            }
        }
    };
}

pub(super) use {choice, section};
