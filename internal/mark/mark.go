// Package mark counts how often the program came past marked places: the paths
// that only a fault leads to. A test over many faults asks for the counts and
// fails if one of its paths never ran; it is no metric for people, and nothing
// in the program depends on it.
//
// A mark is made once, when its package is initialised, so that the list of all
// marks is also that of the paths never taken. Passing one costs an atomic
// addition.
package mark

import (
	"fmt"
	"sync/atomic"
)

// Mark is a marked place.
type Mark struct {
	name   string
	passed atomic.Int64
}

// all has every mark; it changes only while packages are initialised.
var all = map[string]*Mark{}

// New makes a mark. The name begins with its package's, as "worker: ", and is no
// other mark's. It is called only to initialise a package's variables.
func New(name string) *Mark {
	if all[name] != nil {
		panic(fmt.Sprintf("mark %q is made twice", name))
	}
	m := &Mark{name: name}
	all[name] = m
	return m
}

// Pass counts; from any goroutine.
func (m *Mark) Pass() { m.passed.Add(1) }

// Counts is how often each mark of the program was passed so far, by name.
func Counts() map[string]int64 {
	counts := make(map[string]int64, len(all))
	for name, m := range all {
		counts[name] = m.passed.Load()
	}
	return counts
}
