package main

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

const (
	transferTimeout  = 10 * time.Minute
	transferAttempts = 3
	shownTokenLength = 8
)

// coordinator is GitLab, as a job with a token of its own may talk to it.
type coordinator struct {
	url, token, caFile string
	id                 int64
}

func (c *coordinator) register(flags *flag.FlagSet) {
	flags.StringVar(&c.url, "url", os.Getenv("CI_SERVER_URL"), "address of GitLab")
	flags.StringVar(&c.token, "token", os.Getenv("CI_JOB_TOKEN"), "the job's token")
	flags.Int64Var(&c.id, "id", 0, "the job's id")
	flags.StringVar(&c.caFile, "tls-ca-file", os.Getenv("CI_SERVER_TLS_CA_FILE"), "certificates in PEM to trust")
}

func (c *coordinator) check() error {
	if c.url == "" || c.token == "" || c.id == 0 {
		return errors.New("missing runner credentials or build ID")
	}
	return nil
}

func (c *coordinator) client() (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if c.caFile != "" {
		pem, err := os.ReadFile(c.caFile)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", c.caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return &http.Client{Transport: transport, Timeout: transferTimeout}, nil
}

func (c *coordinator) artifacts(query url.Values) string {
	address := fmt.Sprintf("%s/api/v4/jobs/%d/artifacts", strings.TrimRight(c.url, "/"), c.id)
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return address
}

func (c *coordinator) fields(answer *http.Response) []field {
	return []field{
		{"id", strconv.FormatInt(c.id, 10)},
		{"responseStatus", answer.Status},
		{"token", c.token[:min(len(c.token), shownTokenLength)]},
	}
}

func uploadArtifacts(flags *flag.FlagSet, arguments []string) error {
	var gitlab coordinator
	var files selection
	gitlab.register(flags)
	files.register(flags)
	name := flags.String("name", "artifacts", "name of the archive")
	expireIn := flags.String("expire-in", "", "when GitLab may delete it")
	format := flags.String("artifact-format", "zip", "zip, gzip or raw")
	kind := flags.String("artifact-type", "archive", "archive, junit, ...")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if err := gitlab.check(); err != nil {
		return err
	}
	names, err := files.find()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		failure("No files to upload")
		return nil
	}
	content, filename, err := pack(*format, path.Base(*name), names)
	if err != nil {
		return err
	}
	query := url.Values{"artifact_format": {*format}, "artifact_type": {*kind}}
	if *expireIn != "" {
		query.Set("expire_in", *expireIn)
	}
	return gitlab.upload(query, content, filename, *kind)
}

// pack makes what is uploaded of the selected files, and says how it is called.
func pack(format, name string, names []string) ([]byte, string, error) {
	var content bytes.Buffer
	switch format {
	case "", "zip":
		if err := writeZip(&content, names); err != nil {
			return nil, "", err
		}
		return content.Bytes(), strings.TrimSuffix(name, ".zip") + ".zip", nil
	case "gzip":
		err := concatenate(names, func(file string, in io.Reader) error {
			out := gzip.NewWriter(&content)
			out.Name = file
			if _, err := io.Copy(out, in); err != nil {
				return err
			}
			return out.Close()
		})
		return content.Bytes(), strings.TrimSuffix(name, ".gz") + ".gz", err
	case "raw":
		if len(names) > 1 {
			return nil, "", errors.New("only one file can be sent as raw")
		}
		content, err := os.ReadFile(names[0])
		return content, path.Base(names[0]), err
	}
	return nil, "", fmt.Errorf("unsupported archive format %q", format)
}

func concatenate(names []string, add func(string, io.Reader) error) error {
	for _, name := range names {
		status, err := os.Stat(name)
		if err != nil {
			return err
		}
		if status.IsDir() {
			continue
		}
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		err = errors.Join(add(name, file), file.Close())
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *coordinator) upload(query url.Values, content []byte, filename, kind string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", filename)
	if err != nil {
		return err
	}
	if _, err := part.Write(content); err != nil {
		return err
	}
	if err := form.Close(); err != nil {
		return err
	}
	what := fmt.Sprintf("Uploading artifacts as %q to coordinator...", kind)
	for attempt := 1; ; attempt++ {
		request, err := http.NewRequest(http.MethodPost, c.artifacts(query), bytes.NewReader(body.Bytes()))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", form.FormDataContentType())
		request.Header.Set("JOB-TOKEN", c.token)
		answer, err := client.Do(request)
		if err != nil {
			warning(what + " error of network: " + err.Error())
		} else {
			answer.Body.Close()
			switch {
			case answer.StatusCode == http.StatusCreated:
				info(what+" "+answer.Status, c.fields(answer)...)
				return nil
			case answer.StatusCode/100 == 4:
				failure(what+" "+strings.ToLower(http.StatusText(answer.StatusCode)), c.fields(answer)...)
				return exitError{1, errors.New("permission denied or archive refused")}
			}
			warning(what+" failed", c.fields(answer)...)
		}
		if attempt == transferAttempts {
			return errors.New("the artifacts could not be uploaded")
		}
		time.Sleep(time.Second)
	}
}

func downloadArtifacts(flags *flag.FlagSet, arguments []string) error {
	var gitlab coordinator
	gitlab.register(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if err := gitlab.check(); err != nil {
		return err
	}
	client, err := gitlab.client()
	if err != nil {
		return err
	}
	request, err := http.NewRequest(http.MethodGet, gitlab.artifacts(nil), nil)
	if err != nil {
		return err
	}
	request.Header.Set("JOB-TOKEN", gitlab.token)
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	const what = "Downloading artifacts from coordinator..."
	if answer.StatusCode != http.StatusOK {
		failure(what+" "+strings.ToLower(http.StatusText(answer.StatusCode)), gitlab.fields(answer)...)
		return exitError{1, fmt.Errorf("the artifacts of job %d could not be downloaded", gitlab.id)}
	}
	info(what+" ok", gitlab.fields(answer)...)
	archive, err := os.CreateTemp("", "artifacts")
	if err != nil {
		return err
	}
	defer os.Remove(archive.Name())
	if _, err := io.Copy(archive, answer.Body); err != nil {
		return errors.Join(err, archive.Close())
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return readZip(archive.Name())
}
