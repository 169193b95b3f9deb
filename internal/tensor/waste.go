package tensor

import "runtime/debug"

// Waste counts the bytes of tensors that nothing refers to any more and that the
// garbage collector has not seen. Left to itself it would wait until they are a
// given part of all memory, most of which are weights.
type Waste int

// mostWaste is how many bytes may wait for the collector, which takes a
// millisecond.
const mostWaste = 1 << 20

// Add counts a tensor that has been replaced or removed. What lies in a Mapping
// is dropped at once.
func (w *Waste) Add(t *Tensor) {
	if t.Mapping != nil {
		t.Drop()
		return
	}
	if *w += Waste(len(t.Data)); *w >= mostWaste {
		w.collect()
	}
}

// Before makes room for a tensor of that many bytes: a large one does not come on
// top of what waits, small garbage included.
func (w *Waste) Before(sizeBytes int) {
	if sizeBytes >= 4*mostWaste {
		w.collect()
	}
}

func (w *Waste) collect() {
	*w = 0
	debug.FreeOSMemory()
}
