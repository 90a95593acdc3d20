//! Start tags: parsing, attributes, escaping.
