package logs

import "bytes"

// maxMatched is how many bytes of a line that does not end are looked at together.
const maxMatched = 1 << 20

// matcher passes the records of lines on that match, in the order in which these end.
type matcher struct {
	match func(line []byte) bool
	each  func(Record) error
	// lines are the beginnings of those that have not ended, of each stream.
	lines [2]pendingLine
	// last, if keep is set, are the last lines that matched, wanted of them at most.
	keep   bool
	wanted int
	last   [][]Record
}

// pendingLine is what there is of a line.
type pendingLine struct {
	records []Record
	size    int
}

// matching returns the options for reading a log of which only lines that match are wanted, what gets the records, and what is called at
// the end. Tail counts lines that match.
func matching(o ReadOptions, each func(Record) error) (ReadOptions, func(Record) error, func() error) {
	if o.Match == nil {
		return o, each, func() error { return nil }
	}
	m := &matcher{match: o.Match, each: each, keep: o.Last, wanted: o.Tail}
	o.Last, o.waits = false, m.release
	return o, m.add, m.end
}

// add takes a record. A line is matched without its end, and if it is very long in parts.
func (m *matcher) add(r Record) error {
	p := &m.lines[r.Stream-1]
	p.records = append(p.records, r)
	p.size += len(r.Data)
	if !bytes.HasSuffix(r.Data, []byte{'\n'}) && p.size < maxMatched {
		return nil
	}
	return m.decide(p)
}

// decide matches what there is of a line.
func (m *matcher) decide(p *pendingLine) error {
	records := p.records
	line := records[0].Data
	if len(records) > 1 {
		line = make([]byte, 0, p.size)
		for _, r := range records {
			line = append(line, r.Data...)
		}
	}
	p.records, p.size = nil, 0
	if !m.match(bytes.TrimSuffix(line, []byte{'\n'})) {
		return nil
	}
	if !m.keep {
		return m.pass(records)
	}
	if m.last = append(m.last, records); len(m.last) > m.wanted {
		m.last[0] = nil
		m.last = m.last[1:]
	}
	return nil
}

func (m *matcher) pass(records []Record) error {
	for _, r := range records {
		if err := m.each(r); err != nil {
			return err
		}
	}
	return nil
}

// release passes the last lines on: all that is there has been read. What comes later is passed on at once.
func (m *matcher) release() error {
	last := m.last
	m.keep, m.last = false, nil
	for _, records := range last {
		if err := m.pass(records); err != nil {
			return err
		}
	}
	return nil
}

// end decides on lines that will not be completed.
func (m *matcher) end() error {
	for i := range m.lines {
		if p := &m.lines[i]; len(p.records) > 0 {
			if err := m.decide(p); err != nil {
				return err
			}
		}
	}
	return m.release()
}
