//! Port: pictures and texts in, unit vectors out.
