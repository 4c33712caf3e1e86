from vocalsep_jax.training.schedule import Schedule


def test_what_is_due_when():
    schedule = Schedule(steps_per_epoch=10, epochs=5, log_every=4, validate_every=2, checkpoint_every=15)
    due = {step: schedule.due(step) for step in range(1, 51)}
    assert [s for s, d in due.items() if d.log] == [
        4, 8, 10, 12, 16, 20, 24, 28, 30, 32, 36, 40, 44, 48, 50,
    ]  # fmt: skip
    assert [s for s, d in due.items() if d.validate] == [20, 40, 50]
    assert [s for s, d in due.items() if d.checkpoint] == [15, 20, 30, 40, 45, 50]
    following = [next(s for s in range(step + 1, 51) if any(due[s])) for step in range(50)]
    assert [schedule.next_due(step) for step in range(50)] == following
