package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"starling/internal/coordinator"
	"starling/internal/engine"
)

// The protocol's header for requests and answers with binary data, how many bytes
// of JSON stand before it; and ours, the slices that parity gave.
const (
	headerText    = "Inference-Header-Content-Length"
	headerDecoded = "Starling-Decoded"
)

// Handler answers REST requests.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	on := func(method, path string, h func(w http.ResponseWriter, r *http.Request) error) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != method && !(method == http.MethodGet && r.Method == http.MethodHead) {
				w.Header().Set("Allow", method)
				s.fail(w, &refusal{http.StatusMethodNotAllowed, fmt.Sprintf("%s is for %s", printable(path), method)})
				return
			}
			if err := h(w, r); err != nil {
				s.fail(w, err)
			}
		})
	}
	on(http.MethodGet, "/v2", s.serverMetadata)
	on(http.MethodGet, "/v2/{$}", s.serverMetadata)
	on(http.MethodGet, "/v2/health/live", func(w http.ResponseWriter, _ *http.Request) error {
		return writeJSON(w, http.StatusOK, map[string]bool{"live": true})
	})
	on(http.MethodGet, "/v2/health/ready", s.serverReady)
	for _, path := range []string{"/v2/models/{name}", "/v2/models/{name}/versions/{version}"} {
		on(http.MethodGet, path, s.modelMetadata)
		on(http.MethodGet, path+"/ready", s.modelReady)
		on(http.MethodPost, path+"/infer", s.infer)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, &refusal{http.StatusNotFound, "there is nothing here: see /v2"})
	})
	return mux
}

func (s *Server) serverMetadata(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, struct {
		Name       string   `json:"name"`
		Version    string   `json:"version"`
		Extensions []string `json:"extensions"`
	}{serverName, s.cfg.Version, extensions})
}

// Said of every server.
const serverName = "starling"

var extensions = []string{"binary_tensor_data"}

func (s *Server) serverReady(w http.ResponseWriter, _ *http.Request) error {
	ready := s.ready()
	return writeJSON(w, readyStatus(ready), map[string]bool{"ready": ready})
}

func readyStatus(ready bool) int {
	if !ready {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

func (s *Server) named(r *http.Request) (*model, error) {
	return s.model(r.PathValue("name"), r.PathValue("version"))
}

func (s *Server) modelMetadata(w http.ResponseWriter, r *http.Request) error {
	m, err := s.named(r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Name     string           `json:"name"`
		Versions []string         `json:"versions"`
		Platform string           `json:"platform"`
		Inputs   []tensorMetadata `json:"inputs"`
		Outputs  []tensorMetadata `json:"outputs"`
	}{m.Name, []string{modelVersion}, platform, metadata(m.Inputs), metadata(m.Outputs)})
}

// modelReady also says how many workers more may be lost, which is what there is
// to look after while all requests are answered.
func (s *Server) modelReady(w http.ResponseWriter, r *http.Request) error {
	m, err := s.named(r)
	if err != nil {
		return err
	}
	type redundancy struct {
		Now     int `json:"now"`
		Planned int `json:"planned"`
	}
	status := struct {
		Name       string      `json:"name"`
		Ready      bool        `json:"ready"`
		Redundancy *redundancy `json:"redundancy,omitempty"` // nil without workers
	}{Name: m.Name, Ready: m.Flock.Ready()}
	if m.Flock.Plan.N() > 0 {
		h := m.Flock.Health()
		status.Redundancy = &redundancy{h.Redundancy, h.Planned}
	}
	return writeJSON(w, readyStatus(status.Ready), status)
}

func (s *Server) infer(w http.ResponseWriter, r *http.Request) error {
	m, err := s.named(r)
	if err != nil {
		return err
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return &refusal{http.StatusUnsupportedMediaType, fmt.Sprintf("Content-Encoding %.20q is not supported: send the body as it is", coding)}
	}
	text, most := -1, int64(m.text)
	if length := r.Header.Get(headerText); length != "" {
		n, err := strconv.ParseUint(length, 10, 31)
		if err != nil {
			return bad("%s %.20q is no number of bytes", headerText, length)
		}
		text, most = int(n), int64(m.text)+int64(m.binary)
	}
	if r.ContentLength > most {
		return &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("%d bytes: a request to model %q has %d at most", r.ContentLength, m.Name, most)}
	}
	if err := s.enter(); err != nil {
		// Many clients look for an answer only when they have sent everything.
		_, _ = io.CopyN(io.Discard, r.Body, most)
		return err
	}
	defer s.leave()
	q := m.take()
	defer m.give(q)
	if err := q.read(r.Body, text); err != nil {
		return err
	}
	// Computing has the time that the client gives it; the server's deadline, if it
	// passed meanwhile, would look as if the client had hung up.
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	inferred := q.infer(r.Context())
	if err := control.SetWriteDeadline(time.Now().Add(bodyTime)); err != nil {
		return err
	}
	if inferred != nil {
		return inferred
	}
	return q.write(w)
}

// write writes the answer.
func (q *request) write(w http.ResponseWriter) error {
	head := takeBuffer()
	defer buffers.Put(head)
	binary, err := q.describeAnswer(head)
	if err != nil {
		return err
	}
	h := w.Header()
	if decoded := q.decoded(); decoded != "" {
		h.Set(headerDecoded, decoded)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(*head)+binary))
	if binary > 0 {
		h.Set("Content-Type", "application/octet-stream")
		h.Set(headerText, strconv.Itoa(len(*head)))
	}
	if _, err := w.Write(*head); err != nil {
		return nil // nobody is there to be told
	}
	for _, wanted := range q.wanted {
		if wanted.binary {
			if _, err := w.Write(q.answer.Outputs[wanted.output].Data); err != nil {
				return nil // likewise
			}
		}
	}
	return nil
}

// describeAnswer makes the JSON of the answer, and says how many bytes of outputs
// stand behind it.
func (q *request) describeAnswer(head *[]byte) (binary int, err error) {
	b := *head
	b = append(b, `{"model_name":`...)
	b = append(b, q.model.name...)
	b = append(b, `,"model_version":"`+modelVersion+`"`...)
	if q.id != "" {
		b = append(append(b, `,"id":`...), quote(q.id)...)
	}
	b = append(b, `,"outputs":[`...)
	for i, wanted := range q.wanted {
		out := q.answer.Outputs[wanted.output]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, `{"name":`...), q.model.quoted[wanted.output]...)
		b = append(append(append(b, `,"datatype":"`...), datatypes[out.Type]...), `","shape":[`...)
		for j, d := range out.Shape {
			if j > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, int64(d), 10)
		}
		if wanted.binary {
			binary += len(out.Data)
			b = strconv.AppendInt(append(b, `],"parameters":{"binary_data_size":`...), int64(len(out.Data)), 10)
			b = append(b, "}}"...)
			continue
		}
		if b, err = appendElements(append(b, `],"data":`...), out); err != nil {
			return 0, bad("output %q: %v", q.model.Outputs[wanted.output].Name, err)
		}
		b = append(b, '}')
	}
	b = append(b, "]}"...)
	*head = b
	return binary, nil
}

// statusGone is what a log may say of a client that hung up (nginx's code).
const statusGone = 499

// explain says what an error is, as a status of HTTP, and for one that may pass when
// to come again. REST and gRPC say it in their own words.
func explain(err error) (status int, retry time.Duration) {
	if e, ok := errors.AsType[*refusal](err); ok {
		return e.status, 0
	}
	if e, ok := errors.AsType[*coordinator.BusyError](err); ok {
		return http.StatusServiceUnavailable, e.RetryAfter
	}
	if _, ok := errors.AsType[*engine.InputError](err); ok {
		return http.StatusBadRequest, 0
	}
	if _, ok := errors.AsType[*engine.ValueError](err); ok {
		return http.StatusBadRequest, 0
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // while the request was read
		return http.StatusRequestTimeout, 0
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout, 0
	case errors.Is(err, context.Canceled):
		return statusGone, 0
	case errors.Is(err, coordinator.ErrClosed):
		return http.StatusServiceUnavailable, 0
	}
	return http.StatusInternalServerError, 0
}

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, err error) {
	status, retry := explain(err)
	switch status {
	case statusGone: // nobody is there to be told
		return
	case http.StatusInternalServerError:
		s.cfg.Log.Error("request failed", "cause", err)
	}
	if retry > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((retry+time.Second-1)/time.Second), 10))
	}
	_ = writeJSON(w, status, map[string]string{"error": err.Error()}) // likewise
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) // who has hung up need not be told
	return nil
}
