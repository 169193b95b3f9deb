// Package house holds this module's house rules as tests: which package may import
// which, one package comment each, files of a readable length, no machine paths and no
// notes left for later. It has no code of its own and nothing imports it.
//
// The rules read the source with go/parser alone: every file counts, whatever its build
// constraints, and no build and no network is needed.
package house
