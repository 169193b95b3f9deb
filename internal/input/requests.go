package input

import (
	"errors"
	"fmt"
	"strings"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// Requests are the inputs of a run: request i takes entry i mod Count. Its
// methods but Close may be called from several goroutines.
type Requests struct {
	inputs []graph.Value
	seed   uint64
	count  int
	files  [][]*Source      // by model input; none at all: random tensors
	random []*tensor.Tensor // these, the same in each request
}

// OpenRequests opens the INPUT arguments of a command for a model's inputs.
// A plain FILE feeds a model of one input, and several of them are run one
// after the other. A model of several inputs takes name=FILE for each; where
// files hold different numbers of entries, one entry goes with all of the
// others'. No argument at all gives one entry of Random tensors.
func OpenRequests(args []string, inputs []graph.Value, opt Options, seed uint64) (r *Requests, err error) {
	r = &Requests{inputs: inputs, seed: seed, count: 1}
	if len(args) == 0 {
		for _, in := range inputs {
			r.random = append(r.random, Random(in, seed, 0))
		}
		return r, nil
	}
	r.files = make([][]*Source, len(inputs))
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	for _, arg := range args {
		i, path, err := inputOf(arg, inputs)
		if err != nil {
			return r, err
		}
		s, err := Open(path, inputs[i], opt)
		if err != nil {
			return r, err
		}
		r.files[i] = append(r.files[i], s)
	}
	for i, files := range r.files {
		n := entries(files)
		switch {
		case n == 0:
			return r, fmt.Errorf("the model's input %q has no file: add %s=FILE", inputs[i].Name, inputs[i].Name)
		case r.count == 1:
			r.count = n
		case n != 1 && n != r.count:
			return r, fmt.Errorf("input %q has %d entries, another one %d: give files with as many, or with one", inputs[i].Name, n, r.count)
		}
	}
	return r, nil
}

// inputOf says which of the model's inputs an argument is for.
func inputOf(arg string, inputs []graph.Value) (int, string, error) {
	name, path, named := strings.Cut(arg, "=")
	var names []string
	for i, in := range inputs {
		if named && in.Name == name {
			return i, path, nil
		}
		names = append(names, in.Name)
	}
	if len(inputs) == 1 {
		return 0, arg, nil
	}
	return 0, "", fmt.Errorf("%s: the model has %d inputs: write NAME=FILE, NAME one of %s", arg, len(inputs), strings.Join(names, ", "))
}

func entries(files []*Source) int {
	n := 0
	for _, s := range files {
		n += s.Count()
	}
	return n
}

// Count is the number of different entries, at least 1.
func (r *Requests) Count() int { return r.count }

// find returns the file and the index in it of entry i of a model input.
func (r *Requests) find(input, i int) (*Source, int) {
	files := r.files[input]
	if i >= entries(files) {
		i = 0 // one entry for all
	}
	for _, s := range files {
		if i < s.Count() {
			return s, i
		}
		i -= s.Count()
	}
	panic("input: entry beyond the files")
}

// Tensors returns the inputs of request i, from 0. They may be those of another
// request too and must not be written.
func (r *Requests) Tensors(i int) ([]*tensor.Tensor, error) {
	if r.files == nil {
		return r.random, nil
	}
	i %= r.count
	out := make([]*tensor.Tensor, len(r.inputs))
	for k := range r.inputs {
		s, at := r.find(k, i)
		t, err := s.Tensor(at)
		if err != nil {
			return nil, err
		}
		out[k] = t
	}
	return out, nil
}

// Name is what request i is made from, as written in a table.
func (r *Requests) Name(i int) string {
	if r.files == nil {
		return fmt.Sprintf("random, seed %d", r.seed)
	}
	s, at := r.find(0, i%r.count)
	return s.Name(at)
}

// Close closes the files.
func (r *Requests) Close() error {
	var errs []error
	for _, files := range r.files {
		for _, s := range files {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}
