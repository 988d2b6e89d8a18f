// Answers how BuildKit itself reads a Dockerfile: one JSON request a line on stdin, one JSON answer a line on stdout, in
// order. It runs BuildKit's own parser and its conversion to a build graph, with a resolver that knows every image and
// asks nobody. Of an ignore file and a folder it tells which files BuildKit sends. Tests compare lian-build with it. It
// builds nothing.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	slashpath "path"
	"slices"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
)

// A request: a Dockerfile, or one word whose variables are to be replaced.
type request struct {
	Text     []byte            `json:"text"`
	Target   string            `json:"target"`
	Args     map[string]string `json:"args"`
	Platform string            `json:"platform"`
	Builder  string            `json:"builder"`
	Word     *string           `json:"word"`
	Escape   string            `json:"escape"`
	// Ignore and Tree: an ignore file, and the folder that it filters.
	Ignore []byte `json:"ignore"`
	Tree   string `json:"tree"`
}

type answer struct {
	// Phase tells who refused it: "parse" (whatever is built of it) or "convert" (this target with these arguments).
	Phase  string   `json:"phase,omitempty"`
	Error  string   `json:"error,omitempty"`
	Lines  [][2]int `json:"lines,omitempty"`
	Syntax string   `json:"syntax,omitempty"`
	Stages []stage  `json:"stages,omitempty"`
	Images []string `json:"images,omitempty"`
	// Secrets and SSH are what the reached stages mount, Args what they declare.
	Secrets []string `json:"secrets,omitempty"`
	SSH     []string `json:"ssh,omitempty"`
	Args    []string `json:"args,omitempty"`
	// Required holds the ids of secrets and sockets whose first mount fails without them.
	Required []string `json:"required,omitempty"`
	// Lint holds the rules of style that found something.
	Lint   []string `json:"lint,omitempty"`
	Result string   `json:"result,omitempty"`
	// Files are the paths that are sent.
	Files [][]byte `json:"files,omitempty"`
	// Malformed holds patterns with a fault that BuildKit does not come to see.
	Malformed []string `json:"malformed,omitempty"`
}

type stage struct {
	Name         string   `json:"name"`
	Base         string   `json:"base"`
	Platform     string   `json:"platform"`
	Instructions []string `json:"instructions"`
	From         []string `json:"from"`
	Triggers     []string `json:"triggers"`
}

// Every image is there, with no more than a PATH.
type resolver struct {
	mu    sync.Mutex
	asked map[string]struct{}
}

func (r *resolver) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	platform := platforms.DefaultSpec()
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		platform = *opt.ImageOpt.Platform
	}
	r.mu.Lock()
	r.asked[ref+" "+platforms.Format(platforms.Normalize(platform))] = struct{}{}
	r.mu.Unlock()
	image := ocispecs.Image{
		Platform: platform,
		Config:   ocispecs.ImageConfig{Env: []string{"PATH=/bin"}},
		RootFS:   ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString(ref)}},
	}
	config, err := json.Marshal(image)
	return ref, digest.FromBytes(config), config, err
}

func refused(phase string, err error) answer {
	answer := answer{Phase: phase, Error: err.Error()}
	var located *parser.LocationError
	if errors.As(err, &located) {
		for _, ranges := range located.Locations {
			for _, place := range ranges {
				answer.Lines = append(answer.Lines, [2]int{place.Start.Line, place.End.Line})
			}
		}
	}
	return answer
}

func one(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

func read(text []byte) (answer, error) {
	var read answer
	read.Syntax, _, _, _ = parser.DetectSyntax(text)
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return answer{}, err
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return answer{}, err
	}
	for _, found := range stages {
		told := stage{Name: found.Name, Base: found.BaseName, Platform: found.Platform}
		for _, command := range found.Commands {
			told.Instructions = append(told.Instructions, command.Name())
			switch command := command.(type) {
			case *instructions.CopyCommand:
				if command.From != "" {
					told.From = append(told.From, command.From)
				}
			case *instructions.RunCommand:
				for _, mount := range instructions.GetMounts(command) {
					if mount.From != "" {
						told.From = append(told.From, mount.From)
					}
				}
			case *instructions.OnbuildCommand:
				told.Triggers = append(told.Triggers, command.Expression)
			}
		}
		read.Stages = append(read.Stages, told)
	}
	return read, nil
}

// walked filters a folder as the frontend, the solver and the client do it in turn: patterns travel as JSON.
func walked(request request) answer {
	patterns, err := ignorefile.ReadAll(bytes.NewReader(request.Ignore))
	if err != nil {
		return refused("ignore", err)
	}
	travelling, err := json.Marshal(patterns)
	if err != nil {
		return refused("ignore", err)
	}
	if err := json.Unmarshal(travelling, &patterns); err != nil {
		return refused("ignore", err)
	}
	told := answer{}
	// BuildKit compiles a pattern when it first needs it; here all of them are.
	for _, pattern := range patterns {
		plain := pattern
		if len(pattern) > 1 && pattern[0] == '!' {
			plain = pattern[1:]
		}
		one, err := patternmatcher.New([]string{plain})
		if err != nil {
			return refused("ignore", err)
		}
		if _, err := one.MatchesOrParentMatches("x"); err != nil {
			return refused("ignore", err)
		}
		// Unlike filepath.Match, which BuildKit asks, this reads a pattern to its end.
		if _, err := slashpath.Match(plain, "x"); err != nil {
			told.Malformed = append(told.Malformed, pattern)
		}
	}
	tree, err := fsutil.NewFS(request.Tree)
	if err != nil {
		return refused("request", err)
	}
	tree, err = fsutil.NewFilterFS(tree, &fsutil.FilterOpt{ExcludePatterns: patterns})
	if err != nil {
		return refused("ignore", err)
	}
	err = tree.Walk(context.Background(), "", func(path string, _ fs.DirEntry, err error) error {
		told.Files = append(told.Files, []byte(path))
		return err
	})
	if err != nil {
		return refused("ignore", err)
	}
	return told
}

func asked(request request) answer {
	if request.Tree != "" {
		return walked(request)
	}
	if request.Word != nil {
		env := []string{}
		for name, value := range request.Args {
			env = append(env, name+"="+value)
		}
		result, err := shell.NewLex([]rune(request.Escape)[0]).ProcessWordWithMatches(*request.Word, shell.EnvsFromSlice(env))
		if err != nil {
			return refused("word", err)
		}
		return answer{Result: result.Result, Args: one(slices.Collect(maps.Keys(result.Unmatched)))}
	}
	told, err := read(request.Text)
	if err != nil {
		return refused("parse", err)
	}
	target, err := platforms.Parse(request.Platform)
	if err != nil {
		return refused("request", err)
	}
	builder, err := platforms.Parse(request.Builder)
	if err != nil {
		return refused("request", err)
	}
	target, builder = platforms.Normalize(target), platforms.Normalize(builder)
	// BuildKit changes the map that it is given.
	args := maps.Clone(request.Args)
	caps := pb.Caps.CapSet(pb.Caps.All())
	images := &resolver{asked: map[string]struct{}{}}
	lint := []string{}
	outline, err := dockerfile2llb.Dockerfile2Outline(context.Background(), request.Text, dockerfile2llb.ConvertOpt{
		Config:         dockerui.Config{Target: request.Target, BuildArgs: args, BuildPlatforms: []ocispecs.Platform{builder}},
		TargetPlatform: &target,
		MetaResolver:   images,
		LLBCaps:        &caps,
		Warn:           func(rule, _, _, _ string, _ []parser.Range) { lint = append(lint, rule) },
	})
	if err != nil {
		refusal := refused("convert", err)
		refusal.Lint = one(lint)
		return refusal
	}
	told.Lint = one(lint)
	told.Images = slices.Sorted(maps.Keys(images.asked))
	for _, secret := range outline.Secrets {
		told.Secrets = append(told.Secrets, secret.Name)
		if secret.Required {
			told.Required = append(told.Required, secret.Name)
		}
	}
	for _, socket := range outline.SSH {
		told.SSH = append(told.SSH, socket.Name)
		if socket.Required {
			told.Required = append(told.Required, socket.Name)
		}
	}
	for _, arg := range outline.Args {
		told.Args = append(told.Args, arg.Name)
	}
	told.Secrets, told.SSH, told.Args = one(told.Secrets), one(told.SSH), one(told.Args)
	return told
}

// A panic is BuildKit's own fault: it is told as an answer, and the next request goes on.
func safely(line []byte) (found answer) {
	defer func() {
		if cause := recover(); cause != nil {
			found = answer{Phase: "panic", Error: fmt.Sprint(cause)}
		}
	}()
	var request request
	if err := json.Unmarshal(line, &request); err != nil {
		return refused("request", err)
	}
	return asked(request)
}

func main() {
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	answers := json.NewEncoder(out)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			if err := answers.Encode(safely(line)); err != nil {
				os.Exit(1)
			}
		}
		if lines.Buffered() == 0 || err != nil {
			if out.Flush() != nil {
				os.Exit(1)
			}
		}
		if err != nil {
			return
		}
	}
}
