//! Prompts in the structure of Appendices A.10 and A.11, and errors of task files, to the word.

use sami_constitution::{ConstitutionSpace, PrincipleSet, Task, Trim};

#[test]
fn dialogue_prompts_have_the_structure_of_the_paper() {
    let task = Task::dialogue();
    let training = task.training_prompt("1. Be kind.\n2. Be brief.", "Why is {{ x }} blue?").unwrap();
    let system =
        "System: Answer the human as an assistant who keeps to every principle of the constitution.\n\n";
    let main =
        "Assistant Constitution:\n1. Be kind.\n2. Be brief.\n\nHuman: Why is {{ x }} blue?\n\nAssistant:";
    assert_eq!(training, format!("{system}{main}"));
    let example = "### Example Format\n\nAssistant Constitution:\n[insert constitution here]\n\nHuman: [insert query here]\n\n\
                   Assistant: [insert response here]\n\n### Main Task\n\n";
    let sampling = task.sampling_prompt("1. Be kind.\n2. Be brief.", "Why is {{ x }} blue?").unwrap();
    assert_eq!(sampling, format!("{system}{example}{main}"));
    assert_eq!(task.stop_strings()[..2], ["\n\nHuman:", "Human:"]);
    assert_eq!(task.name(), "dialogue");
}

#[test]
fn text_goes_into_prompts_as_it_is() {
    let task = Task::dialogue();
    for query in ["<b>&amp;</b>", "tab\there", "a \"quote\" & 'two'", "{% if %}", "äöü 🦀", " "] {
        let prompt = task.training_prompt("1. x", query).unwrap();
        assert!(prompt.ends_with(&format!("Human: {query}\n\nAssistant:")), "{prompt}");
    }
}

#[test]
fn a_constitution_and_its_text_make_the_same_prompt() {
    let task = Task::tldr();
    let space = ConstitutionSpace::new(PrincipleSet::helpful_harmless());
    for constitution in space.all() {
        let text = constitution.render();
        assert_eq!(
            task.sampling_prompt(&constitution, "post").unwrap(),
            task.sampling_prompt(text.as_str(), "post").unwrap()
        );
    }
}

#[test]
fn summaries_begin_in_the_sampling_prompt() {
    let task = Task::tldr();
    let sampling = task.sampling_prompt("1. Be brief.", "A long story.").unwrap();
    let training = task.training_prompt("1. Be brief.", "A long story.").unwrap();
    assert!(sampling.contains("### Example Format") && !training.contains("###"));
    assert!(training.ends_with("POST: A long story.\n\nSummary:"));
    // What is sampled after the first prompt is, with the prefix, what follows the second.
    assert!(sampling.ends_with(&format!("POST: A long story.\n\nSummary:{}", task.rules().prefix)));
    assert_eq!(task.rules().trim, Trim::End);
}

#[test]
fn judges_and_instruct_models_get_their_prompts() {
    for task in [Task::dialogue(), Task::tldr()] {
        let judge = task.judge_prompt("1. Be kind.", "Q?", ["first answer", "second answer"]).unwrap();
        assert!(judge.find("first answer").unwrap() < judge.find("second answer").unwrap());
        assert!(judge.ends_with("Final Response: <A or B>"));
        let instruct = task.instruct_prompt("1. Be kind.", "Q?").unwrap();
        assert!(instruct.contains("1. Be kind.") && !instruct.contains("Example Format"));
    }
}

#[test]
fn tasks_say_what_a_principle_writer_is_asked() {
    let dialogue = Task::dialogue().writer().unwrap().clone();
    assert_eq!(dialogue.principles, ["helpful", "harmless"]);
    let tldr = Task::tldr().writer().unwrap().clone();
    assert_eq!((tldr.task.as_str(), tldr.principles.len()), ("summarize posts from Reddit", 2));
    assert_eq!(Task::from_toml(OWN).unwrap().writer(), None);
    let own = |table: &str| Task::from_toml(&format!("{OWN}[writer]\n{table}"));
    let asked = own("task = \"rhyme\"\nprinciples = [\"sad\"]").unwrap();
    assert_eq!(asked.writer().unwrap().task, "rhyme");
    let refused = |table: &str| own(table).unwrap_err().to_string();
    assert_eq!(
        refused("task = \"\"\nprinciples = [\"sad\"]"),
        "line 8: the task is empty; say what the model is asked to do, for example \"summarize Reddit posts\""
    );
    assert_eq!(
        refused("task = \"rhyme\"\nprinciples = []"),
        "line 8: no principle is named; name at least one, for example helpful"
    );
}

const OWN: &str = "name = \"own\"\n[prompts]\nsampling = \"\"\"\n{{ constitution }}\n{{ query }}\"\"\"\ntraining = '''{{ constitution }}\n{{ query }}'''\n";

#[test]
fn a_task_of_ones_own_is_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.toml");
    std::fs::write(&path, OWN).unwrap();
    let task = Task::load(&path).unwrap();
    assert_eq!(task.training_prompt("c", "q").unwrap(), "c\nq");
    assert!(task.stop_strings().is_empty() && task.rules().reject_equal);
    let error = task.judge_prompt("c", "q", ["a", "b"]).unwrap_err().to_string();
    assert_eq!(error, "task own has no template judge; add it under [prompts] in the task's file");
}

#[test]
fn wrong_task_files_are_refused_with_their_line() {
    let cases = [
        (OWN.replace("\"own\"", "\" \""), "line 1: the task has no name; set name = \"…\""),
        (
            OWN.replace("training", "trainig"),
            "line 6: unknown field `trainig`, expected one of `sampling`, `training`, `instruct`, `judge`",
        ),
        // The first template's second line is the file's fifth.
        (
            OWN.replacen("{{ query }}", "{{ query ", 1),
            "line 5: template sampling: syntax error: unexpected end of input, expected end of variable block",
        ),
        (
            OWN.replacen("{{ query }}", "{{ quest }}", 1),
            "line 5: template sampling: there is no variable quest; it may use constitution, query",
        ),
        (
            OWN.replacen("{{ query }}", "{{ query }}{% if no %}{{ x }}{% endif %}", 1),
            "line 5: template sampling: there is no variable no; it may use constitution, query",
        ),
        (
            OWN.replace("\n{{ query }}'''", "'''"),
            "line 6: template training does not use query; put {{ query }} where it belongs",
        ),
        (
            OWN.replace("{{ query }}'''", "{{ query|nope }}'''"),
            "line 7: template training: unknown filter: filter nope is unknown",
        ),
        (
            OWN.replace("{{ query }}'''", "{{ query.a.b }}'''"),
            "line 7: template training: undefined value: `query.a` is undefined",
        ),
        (
            format!("{OWN}[responses]\nstop = [\"\\n\\n\", \"\"]"),
            "line 8: responses.stop[1] is empty and would match every response; remove it",
        ),
        (
            format!("{OWN}[responses]\nreject_openings = [\" \"]"),
            "line 8: responses.reject_openings[0] is empty and would match every response; remove it",
        ),
        (
            format!("{OWN}[responses]\ntrim = \"start\""),
            "line 9: unknown variant `start`, expected one of `end`, `both`, `never`",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(Task::from_toml(&text).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn an_instruct_models_task_asks_in_the_users_turn() {
    let task = Task::tldr();
    let instructed = task.instructed().unwrap();
    let turn = task.instruct_prompt("1. Be brief.", "A post.").unwrap();
    assert_eq!(instructed.sampling_prompt("1. Be brief.", "A post.").unwrap(), turn);
    assert_eq!(instructed.training_prompt("1. Be brief.", "A post.").unwrap(), turn);
    assert_ne!(task.sampling_prompt("1. Be brief.", "A post.").unwrap(), turn);
    // The base model's prompt ends with the first words of its answer, a turn does not.
    assert_eq!((task.rules().prefix.as_str(), instructed.rules().prefix.as_str()), (" The post", ""));
    assert_eq!(instructed.rules().stop, task.rules().stop);
    let error = Task::from_toml(OWN).unwrap().instructed().unwrap_err().to_string();
    assert_eq!(error, "task own has no template instruct; add it under [prompts] in the task's file");
}
