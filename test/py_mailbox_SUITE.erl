%% @doc How much of a mailbox is a stream's, by its length and by counts: of owners on this node.
-module(py_mailbox_SUITE).

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    the_length_is_enough/1,
    events_among_other_mail_are_counted/1,
    a_count_that_promises_nothing_waits/1,
    a_count_without_progress_is_not_repeated_soon/1,
    a_count_with_progress_may_be_repeated_at_once/1,
    an_owner_that_sleeps_is_counted_once/1,
    the_mailbox_of_one_that_has_ended_is_empty/1,
    mail_that_is_too_large_is_not_copied/1,
    mail_in_the_heap_is_copied_once/1
]).

%% Polls after which a count is worth its price.
-define(MANY, 104).

-spec suite() -> [{atom(), term()}].
suite() ->
    [{timetrap, {minutes, 1}}].

-spec all() -> [atom()].
all() ->
    [
        the_length_is_enough,
        events_among_other_mail_are_counted,
        a_count_that_promises_nothing_waits,
        a_count_without_progress_is_not_repeated_soon,
        a_count_with_progress_may_be_repeated_at_once,
        an_owner_that_sleeps_is_counted_once,
        the_mailbox_of_one_that_has_ended_is_empty,
        mail_that_is_too_large_is_not_copied,
        mail_in_the_heap_is_copied_once
    ].

-spec init_per_testcase(atom(), ct_suite:ct_config()) -> ct_suite:ct_config().
init_per_testcase(_Case, Config) ->
    {ok, _} = py_mail_counter:start_link(),
    Config.

-spec end_per_testcase(atom(), ct_suite:ct_config()) -> ok.
end_per_testcase(_Case, _Config) ->
    gen_server:stop(py_mail_counter).

%% As long as the length comes down nothing is counted.
-spec the_length_is_enough(ct_suite:ct_config()) -> ok.
the_length_is_enough(_Config) ->
    {Owner, Mailbox} = new(7, 3),
    {length, 10, _} = poll(Mailbox, ?MANY, 11),
    stop(Owner).

-spec events_among_other_mail_are_counted(ct_suite:ct_config()) -> ok.
events_among_other_mail_are_counted(_Config) ->
    {Owner, Mailbox} = new(7, 3),
    {counted, 3, Counted} = poll(Mailbox, ?MANY, 5),
    run(Owner),
    %% By now it is known that the rest is other mail: half of the events are gone.
    {counted, 3, _} = poll(Counted, 0, 6),
    stop(Owner).

%% A count that promises nothing is made late.
-spec a_count_that_promises_nothing_waits(ct_suite:ct_config()) -> ok.
a_count_that_promises_nothing_waits(_Config) ->
    {Owner, Mailbox} = new(7, 3),
    {length, 10, _} = poll(Mailbox, ?MANY - 1, 5),
    {counted, 3, _} = poll(Mailbox, ?MANY, 5),
    stop(Owner).

%% A count that has taken some time, and found nothing taken, is not repeated before fifty times that.
-spec a_count_without_progress_is_not_repeated_soon(ct_suite:ct_config()) -> ok.
a_count_without_progress_is_not_repeated_soon(_Config) ->
    {Owner, Mailbox} = new(100000, 3),
    {counted, 3, Counted} = poll(Mailbox, ?MANY, 3),
    run(Owner),
    {length, 100003, _} = poll(Counted, ?MANY, 3),
    test_eventually:true(fun() -> element(1, poll(Counted, ?MANY, 3)) =:= counted end),
    stop(Owner).

-spec a_count_with_progress_may_be_repeated_at_once(ct_suite:ct_config()) -> ok.
a_count_with_progress_may_be_repeated_at_once(_Config) ->
    {Owner, Mailbox} = new(100000, 3),
    {counted, 3, Counted} = poll(Mailbox, ?MANY, 4),
    run(Owner),
    {counted, 3, _} = poll(Counted, ?MANY, 3),
    stop(Owner).

%% The count itself is no sign that the owner has run.
-spec an_owner_that_sleeps_is_counted_once(ct_suite:ct_config()) -> ok.
an_owner_that_sleeps_is_counted_once(_Config) ->
    {Owner, Mailbox} = new(7, 3),
    {counted, 3, Counted} = poll(Mailbox, ?MANY, 4),
    {length, 10, _} = poll(Counted, ?MANY, 3),
    stop(Owner).

-spec the_mailbox_of_one_that_has_ended_is_empty(ct_suite:ct_config()) -> ok.
the_mailbox_of_one_that_has_ended_is_empty(_Config) ->
    {Owner, Mailbox} = new(7, 3),
    stop(Owner),
    {length, 0, _} = poll(Mailbox, 0, 3),
    ok.

%% More than 256 MiB: the node would need as much again. Whoever asks has an answer, and there is a
%% count again as soon as there is less mail.
-spec mail_that_is_too_large_is_not_copied(ct_suite:ct_config()) -> ok.
mail_that_is_too_large_is_not_copied(_Config) ->
    {Owner, Mailbox} = new(7, 3),
    Others = fill(Owner, 300),
    Traced = trace_copies(Owner),
    {counted, Unknown, _} = poll(Mailbox, ?MANY, 5),
    %% All that it has may be of the stream, as far as is known.
    true = Unknown > Others,
    0 = stop_trace(Traced),
    ok = take(Owner, Others * 9 div 10),
    {counted, 3, _} = poll(Mailbox, ?MANY, 5),
    stop(Owner).

%% The collector may have moved the mail to where the owner has its own terms.
-spec mail_in_the_heap_is_copied_once(ct_suite:ct_config()) -> ok.
mail_in_the_heap_is_copied_once(_Config) ->
    {Owner, Mailbox} = new(7, 3),
    Others = fill(Owner, 300),
    true = erlang:garbage_collect(Owner),
    Traced = trace_copies(Owner),
    [{counted, Unknown, _}, {counted, Unknown, _}] = [poll(Mailbox, ?MANY, 5) || _ <- [1, 2]],
    1 = stop_trace(Traced),
    ok = take(Owner, Others * 9 div 10),
    {counted, 3, _} = poll(Mailbox, ?MANY, 5),
    stop(Owner).

%%% What the cases share.

%% An owner with `Others' messages of others, and `Events' events of the stream.
new(Others, Events) ->
    Ref = make_ref(),
    {Owner, _} = spawn_monitor(fun owner/0),
    [Owner ! {other, N} || N <- lists:seq(1, Others)],
    [Owner ! {py_stream, Ref, {data, N}} || N <- lists:seq(1, Events)],
    run(Owner),
    %% It still runs when it has answered.
    test_eventually:equal({status, waiting}, fun() -> process_info(Owner, status) end),
    {Owner, py_mailbox:new(Owner, Ref)}.

%% Polls once; what is known then, by the length or by a count, of 20 events that were sent.
poll(Mailbox, Polls, InFlight) ->
    {Length, Polled} = py_mailbox:poll(Mailbox, Polls, InFlight, 20),
    case py_mailbox:is_asking(Polled) of
        true -> answered(Polled);
        false -> {length, Length, Polled}
    end.

answered(Asking) ->
    receive
        Message ->
            case py_mailbox:answer(Message, Asking, 20) of
                unrelated -> answered(Asking);
                {Events, Mailbox} -> {counted, Events, Mailbox}
            end
    end.

%% Takes nothing but what the next two send.
owner() ->
    receive
        {run, From} ->
            From ! {ran, self()},
            owner();
        {take, N, From} ->
            [
                receive
                    {other, _} -> ok
                end
             || _ <- lists:seq(1, N)
            ],
            From ! {taken, self()},
            owner();
        stop ->
            ok
    end.

%% Mail of others, of this number of MiB, in messages of 8,000 bytes. Returns their number.
fill(Owner, MiB) ->
    Value = lists:seq(1, 500),
    N = MiB * 1048576 div 8000,
    [Owner ! {other, Value} || _ <- lists:seq(1, N)],
    N.

take(Owner, N) ->
    Owner ! {take, N, self()},
    receive
        {taken, Owner} -> ok
    end.

%% How often the messages of a process are copied from now on. Traced to a process of its own, since what
%% waits for an answer takes all messages.
trace_copies(Owner) ->
    Tracer = spawn_link(fun() -> copies(0) end),
    1 = erlang:trace(whereis(py_mail_counter), true, [call, set_on_spawn, {tracer, Tracer}]),
    1 = erlang:trace_pattern({erlang, process_info, 2}, [{[Owner, messages], [], []}], []),
    Tracer.

stop_trace(Tracer) ->
    1 = erlang:trace(whereis(py_mail_counter), false, [all]),
    _ = erlang:trace_pattern({erlang, process_info, 2}, false, []),
    Delivered = erlang:trace_delivered(all),
    receive
        {trace_delivered, all, Delivered} -> ok
    end,
    Tracer ! {stop, self()},
    receive
        {Tracer, N} -> N
    end.

copies(N) ->
    receive
        {trace, _, call, {erlang, process_info, _}} -> copies(N + 1);
        {stop, From} -> From ! {self(), N}
    end.

run(Owner) ->
    Owner ! {run, self()},
    receive
        {ran, Owner} -> ok
    end.

stop(Owner) ->
    Owner ! stop,
    receive
        {'DOWN', _, process, Owner, normal} -> ok
    end.
