//! The one file that names cryptoki: module, slot by label and serial, login, keys by CKA_ID,
//! signatures, key generation, attributes. Vocabulary out of here is our own.
