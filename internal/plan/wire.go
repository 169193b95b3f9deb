package plan

import (
	"starling/internal/tensor"
	"starling/internal/wire"
)

// encodingFor is the encoding of a layer for which one was asked: integers travel
// as they are.
func (l *Layer) encodingFor(asked wire.Encoding) wire.Encoding {
	if isInteger(l.Linear) || l.Run != nil && (l.Run.Input.Type != tensor.Float32 || l.Run.Output.Type != tensor.Float32) {
		return wire.F32
	}
	return asked
}

// WireBytes is how many bytes travel of n values that are raw bytes long.
func (l *Layer) WireBytes(raw, n int) int {
	if l.Wire == wire.F32 {
		return raw
	}
	return l.Wire.Size(n)
}

// Rounded is a covered layer whose results travel rounded; nil if there is none.
func (p *Plan) Rounded() *Layer {
	for i := range p.Layers {
		if l := &p.Layers[i]; l.Wire != wire.F32 && l.Cover != None {
			return l
		}
	}
	return nil
}
