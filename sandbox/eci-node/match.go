package main

import (
	"encoding/json"
	"io"

	corev1 "k8s.io/api/core/v1"
)

// matchQuestion asks which size a pod would be billed at, in a region.
type matchQuestion struct {
	Region string     `json:"region"`
	Pod    corev1.Pod `json:"pod"`
}

// matchAnswer is the first size that would be tried, as it is written on the pod; or why none would.
type matchAnswer struct {
	Spec  string `json:"spec,omitempty"`
	Error string `json:"error,omitempty"`
}

// match answers a JSON list of questions with a JSON list of answers, without any cluster: so that another reading
// of the vendor's pages can be compared with this one.
func match(questions io.Reader, answers io.Writer) error {
	var asked []matchQuestion
	if err := json.NewDecoder(questions).Decode(&asked); err != nil {
		return err
	}
	given := make([]matchAnswer, len(asked))
	for n, question := range asked {
		order, err := ReadOrder(&question.Pod, question.Region)
		if err != nil {
			given[n].Error = err.Error()
			continue
		}
		given[n].Spec = order.Offers[0].Name()
	}
	return json.NewEncoder(answers).Encode(given)
}
