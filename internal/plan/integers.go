package plan

import (
	"starling/internal/engine"
	"starling/internal/parity"
	"starling/internal/tensor"
)

// Over the integers a parity slice holds Σ (j+1)^p·(W_j − zero), or is given such
// combinations of inputs. Types follow from the layer's geometry and types alone, so
// that they hold whatever the weights are or become:
//
//   - numbers are int16, or int32 where combinations can be larger;
//   - sums are int32, which wraps, if that is enough to recover every result: with
//     r = 1 always, else where no sum can reach 2^(31−v), v the code's headroom;
//   - or else a parity's sums are int64. Data results must not wrap then, so rows
//     are at most engine.MaxWide long.

// isInteger says whether a layer is one over integers.
func isInteger(l engine.Linear) bool { return l.Integers != (engine.Integers{}) }

// canCombine says whether combinations recover a layer after so many losses.
func canCombine(l engine.Linear, losses int) bool {
	return !isInteger(l) || losses < 2 || l.Cols <= engine.MaxWide
}

// combine decides what a parity slice of a layer over integers computes.
func (l *Layer) combine() error {
	if !isInteger(l.Linear) || l.R() == 0 {
		return nil
	}
	code, err := parity.NewIntegers(l.K(), l.R())
	if err != nil {
		return err
	}
	i := &l.coded.Integers
	narrow := func(data int) tensor.DType {
		if code.Most(l.R()-1, data) <= 1<<15-1 {
			return tensor.Int16
		}
		return tensor.Int32
	}
	if l.Cover == Inputs {
		i.Input = narrow(i.MostInput())
	} else {
		i.Weights, i.Zero = narrow(l.Linear.Integers.MostWeight()), 0
	}
	most := int64(l.Linear.Cols) * int64(l.Linear.Integers.MostWeight()) * int64(l.Linear.Integers.MostInput())
	if l.R() > 1 && most >= 1<<(31-code.Headroom()) {
		i.Result = tensor.Int64
	}
	return l.coded.Validate()
}

// inputType is the type of the layer's input.
func (l *Layer) inputType() tensor.DType {
	switch {
	case l.Run != nil:
		return l.Run.Input.Type
	case isInteger(l.Linear):
		return l.Linear.Integers.Input
	}
	return tensor.Float32
}

// weightTypes says how the weights of a layer are stored, for people: of a stage that of its
// largest constant.
func (l *Layer) weightTypes() string {
	switch {
	case l.Run != nil && l.Run.WeightBytes == 0:
		return None
	case l.Run != nil:
		return l.Run.Weights.String()
	case !isInteger(l.Linear):
		return tensor.Float32.String()
	}
	data, coded := l.Linear.Integers, l.coded.Integers
	text := data.Weights.String()
	if l.R() == 0 {
		return text
	}
	if coded.Weights != data.Weights {
		text += ", parity " + coded.Weights.String()
	}
	if coded.Result != data.Result {
		text += ", its sums " + coded.Result.String()
	}
	return text
}
