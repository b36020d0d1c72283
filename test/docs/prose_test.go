package docs

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// phrase is a phrase that pages, comments and messages must not contain. The linters do not read pages, and they accept
// most of these.
type phrase struct {
	pattern string // a space stands for any white space, line breaks included
	instead string
	example string // a text that contains it
}

//nolint:misspell // the patterns and their examples name British spellings
var phrases = []phrase{
	{`(?i)\bper cent\b`, "write 99.5%, or: a percentage of", "12 per cent of the requests"},
	{`\d[\s\x{a0}\x{202f}]+%(?:[^\w.]|\.(?:\D|$)|$)`, "no space before the sign: 99.5%", "it keeps 99.5 %, as before"},
	{`(?i)\bdear(?:er|est|ly)?\b`, "expensive", "such windows are dear"},
	{`(?i)\bkn(?:ow|ows|ew|owing) no\b`, "does not know, has no", "a gateway that knows no limit"},
	{`(?i)\bt(?:ell|ells|old|elling) of\b`, "shows, reports, mentions", "Prometheus tells of it later"},
	{`(?i)\bspeak(?:s|ing)? of\b`, "covers, is about", "the rate speaks of the whole service"},
	{
		`\b[Ww]ho (?:has|is|did|does|had|was)\b`, "name the actor: the leader, a client that, anybody who can",
		"Who has logged in is the actor",
	},
	{`(?i)\b(?:is|are|was|were) (?:said|told|given) by\b`, "name the actor first: the log says", "the reason is said by the log"},
	{`(?i)\bits like\b`, "similar, and others", "password_file and its like"},
	{`(?i)\bshall\b`, "must, should, can", "where it shall also be lifted"},
	{`(?i)\bleader's term\b`, "epoch", "the leader's term grows"},
	{`(?i)\bfor ever\b`, "forever", "it stays so for ever"},
	{`(?i)\bgrey\b`, "gray", "a grey line"},
	{`(?i)\w*centre\b`, "center", "a datacentre move"},
	{`(?i)\b(?:behavi|col|fav|hon|neighb|rum|lab|flav)our\w*`, "American spelling: -or", "misbehaviour, behaviour"},
	{
		`(?i)\b(?:re)?(?:channel|label|level|marshal|model|signal|total|travel|tunnel)l(?:ed|ing)\b`,
		"American spelling: a single l", "it is modelled, and relabelling",
	},
	{`(?i)\bcancell(?:ed|ing)\b`, "canceled, canceling", "the query was cancelled"},
	{
		`(?i)\b(?:author|general|initial|maxim|minim|normal|optim|organ|prior|real|recogn|serial|special|summar|synchron)is(?:e|ed|es|ing|ation)\b`,
		"American spelling: -ize", "minimise the error",
	},
	{`(?i)\b(?:whilst|amongst|learnt|spelt|burnt)\b`, "while, among, learned, spelled, burned", "whilst it learnt"},
	{
		`(?i)\b(?:artefact|judgement|licence|programme|ageing|catalogue)s?\b`, "artifact, judgment, license, program, aging, catalog",
		"a judgement",
	},
}

// TestPagesArePlainEnglish checks the Markdown pages. What a program prints, in a block without a language, is left to
// the program.
func TestPagesArePlainEnglish(t *testing.T) {
	pages := files(t, ".md")
	if len(pages) < 15 {
		t.Fatalf("only %d pages found", len(pages))
	}
	for _, path := range pages {
		for _, f := range find(withoutOutput(read(t, path))) {
			t.Errorf("%s:%d: %q: %s", path, f.line, f.text, f.instead)
		}
	}
}

// TestGoFilesArePlainEnglish checks the comments and the strings of Go files, tests excepted.
func TestGoFilesArePlainEnglish(t *testing.T) {
	checked := 0
	for _, path := range files(t, ".go") {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		checked++
		for _, f := range find(wordsOf(read(t, path))) {
			t.Errorf("%s:%d: %q: %s", path, f.line, f.text, f.instead)
		}
	}
	if checked == 0 {
		t.Error("no Go file checked")
	}
}

// TestPhrasesAreFound proves that each pattern can fail a page and a Go file, across a line break too, and that common
// text passes.
func TestPhrasesAreFound(t *testing.T) {
	for _, p := range phrases {
		wrapped := strings.ReplaceAll(p.example, " ", "\n")
		comment := "package a\n\n// " + strings.ReplaceAll(p.example, " ", "\n// ") + "\nvar a = 1\n"
		for name, text := range map[string]string{
			"page": withoutOutput(p.example), "wrapped page": withoutOutput(wrapped),
			"comment": wordsOf(comment), "string": wordsOf("package a\n\nvar a = `" + p.example + "`\n"),
		} {
			if !slices.ContainsFunc(find(text), func(f finding) bool { return f.instead == p.instead }) {
				t.Errorf("%s: %s is not found in %q", name, p.pattern, text)
			}
		}
	}
	for _, text := range []string{
		"99.5% of them, and %d of 3 %s", "9 %.3f", "a person who can write the key", "controlled, polling, called, canceled",
		"```\nper cent\n```\n", "`who is`", "the four classes", "minimal, normal, optimistic, generalist",
	} {
		if found := find(withoutOutput(text)); len(found) > 0 {
			t.Errorf("%q: %q is found", text, found[0].text)
		}
	}
	if found := find("one\ntwo\nper\ncent"); len(found) != 1 || found[0].line != 3 {
		t.Errorf("found %v, want one finding in line 3", found)
	}
	if found := find(wordsOf("package a\n\nfunc a() {} // per\n// cent\n")); len(found) != 1 || found[0].line != 3 {
		t.Errorf("found %v, want one finding in line 3", found)
	}
}

type finding struct {
	line          int
	text, instead string
}

var patterns = func() []*regexp.Regexp {
	var all []*regexp.Regexp
	for _, p := range phrases {
		all = append(all, regexp.MustCompile(strings.ReplaceAll(p.pattern, " ", `\s+`)))
	}
	return all
}()

// find returns every phrase that text contains.
func find(text string) []finding {
	var found []finding
	for i, p := range patterns {
		for _, at := range p.FindAllStringIndex(text, -1) {
			match := text[at[0]:at[1]]
			found = append(found, finding{
				1 + strings.Count(text[:at[0]], "\n"), strings.Join(strings.Fields(match), " "), phrases[i].instead,
			})
		}
	}
	return found
}

var codeSpan = regexp.MustCompile("`[^`\n]+`")

// withoutOutput blanks the names in backquotes, and the code blocks that name no language: what a program prints.
func withoutOutput(page string) string {
	lines := strings.Split(page, "\n")
	inside, output := false, false
	for i, line := range lines {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		if isFence {
			inside, output = !inside, !inside && fence == ""
		}
		if isFence || output {
			lines[i] = ""
		} else if !inside {
			lines[i] = codeSpan.ReplaceAllString(line, "``")
		}
	}
	return strings.Join(lines, "\n")
}

// wordsOf blanks everything of a Go file but its comments and strings, and keeps the line numbers.
func wordsOf(source string) string {
	set := token.NewFileSet()
	file := set.AddFile("", set.Base(), len(source))
	var s scanner.Scanner
	s.Init(file, []byte(source), nil, scanner.ScanComments)
	var b strings.Builder
	line := 1
	for {
		pos, tok, text := s.Scan()
		switch tok {
		case token.EOF:
			return b.String()
		case token.COMMENT:
			text = strings.Trim(text, "/* ")
		case token.STRING:
			text = strings.Trim(text, "`\"") + " ;" // two strings are not one sentence
		default:
			continue
		}
		for ; line < file.Line(pos); line++ {
			b.WriteByte('\n')
		}
		b.WriteString(text + " ")
		line += strings.Count(text, "\n")
	}
}

// files returns the files with an extension, hidden folders and testdata left out.
func files(t *testing.T, extension string) []string {
	t.Helper()
	var all []string
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		switch hidden := len(path) > 1 && strings.HasPrefix(d.Name(), "."); {
		case err != nil:
			return err
		case d.IsDir() && (hidden || d.Name() == "testdata"):
			return fs.SkipDir
		case strings.HasSuffix(path, extension) && !d.IsDir():
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
