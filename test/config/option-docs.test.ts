import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { optionHelp, optionsPage } from '../../src/config/option-docs.ts';
import { allSpellings, optionTable } from '../../src/config/options.ts';

describe('the options as people read them', () => {
  it('docs/OPTIONS.md is what the table says', () => {
    const page = readFileSync(new URL('../../docs/OPTIONS.md', import.meta.url), 'utf8');
    assert.equal(page, optionsPage(), 'run node --import tsx src/config/option-docs.ts again');
  });

  it('the page names every spelling', () => {
    const page = optionsPage();
    for (const spelling of allSpellings()) assert.ok(page.includes(`\`${spelling}\``), spelling);
  });

  it('the help names every option and keeps its width', () => {
    const help = optionHelp(80);
    for (const name of Object.keys(optionTable)) assert.match(help, new RegExp(`^  ${name}`, 'm'));
    for (const line of help.split('\n')) assert.ok(line.length <= 80, line);
  });
});
