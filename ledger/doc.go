// Package ledger keeps the state of a keyring: a map from the name of a key to what
// there is of it, as a hash trie whose root stands in a signed checkpoint.
//
// Nothing in it needs a token, a clock, a file or random numbers.
package ledger
