%% @doc How much of a mailbox is a stream's, by its length and by counts: of owners on this node.
-module(py_mailbox_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0]).
-export([
    the_length_is_enough/1,
    events_among_other_mail_are_counted/1,
    a_count_that_promises_nothing_waits/1,
    a_count_without_progress_is_not_repeated_soon/1,
    a_count_with_progress_may_be_repeated_at_once/1,
    the_mailbox_of_one_that_has_ended_is_empty/1
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
        the_mailbox_of_one_that_has_ended_is_empty
    ].

%% As long as the length comes down nothing is counted.
-spec the_length_is_enough(ct_suite:ct_config()) -> ok.
the_length_is_enough(_Config) ->
    {Owner, _, Mailbox} = new(7, 3),
    {10, _} = py_mailbox:poll(Mailbox, ?MANY, 11, 20),
    stop(Owner).

-spec events_among_other_mail_are_counted(ct_suite:ct_config()) -> ok.
events_among_other_mail_are_counted(_Config) ->
    {Owner, _, Mailbox} = new(7, 3),
    {3, Counted} = py_mailbox:poll(Mailbox, ?MANY, 5, 20),
    %% By now it is known that the rest is other mail: half of the events are gone.
    {3, _} = py_mailbox:poll(Counted, 0, 6, 20),
    stop(Owner).

%% A count that promises nothing is made late.
-spec a_count_that_promises_nothing_waits(ct_suite:ct_config()) -> ok.
a_count_that_promises_nothing_waits(_Config) ->
    {Owner, _, Mailbox} = new(7, 3),
    {10, _} = py_mailbox:poll(Mailbox, ?MANY - 1, 5, 20),
    {3, _} = py_mailbox:poll(Mailbox, ?MANY, 5, 20),
    stop(Owner).

%% A count that has taken some time, for nothing, is followed by a rest of fifty times that.
-spec a_count_without_progress_is_not_repeated_soon(ct_suite:ct_config()) -> ok.
a_count_without_progress_is_not_repeated_soon(_Config) ->
    {Owner, _, Mailbox} = new(100000, 3),
    {Took, {3, Counted}} = timer:tc(fun() -> py_mailbox:poll(Mailbox, ?MANY, 3, 20) end),
    run(Owner),
    {100003, _} = py_mailbox:poll(Counted, ?MANY, 3, 20),
    timer:sleep(50 * Took div 1000 + 1),
    {3, _} = py_mailbox:poll(Counted, ?MANY, 3, 20),
    stop(Owner).

-spec a_count_with_progress_may_be_repeated_at_once(ct_suite:ct_config()) -> ok.
a_count_with_progress_may_be_repeated_at_once(_Config) ->
    {Owner, _, Mailbox} = new(100000, 3),
    {3, Counted} = py_mailbox:poll(Mailbox, ?MANY, 4, 20),
    run(Owner),
    {3, _} = py_mailbox:poll(Counted, ?MANY, 3, 20),
    stop(Owner).

-spec the_mailbox_of_one_that_has_ended_is_empty(ct_suite:ct_config()) -> ok.
the_mailbox_of_one_that_has_ended_is_empty(_Config) ->
    {Owner, _, Mailbox} = new(7, 3),
    stop(Owner),
    ?assertMatch({0, _}, py_mailbox:poll(Mailbox, 0, 3, 20)),
    ok.

%%% What the cases share.

%% An owner with so many messages of others, and so many events of the stream.
new(Others, Events) ->
    Ref = make_ref(),
    {Owner, _} = spawn_monitor(fun owner/0),
    [Owner ! {other, N} || N <- lists:seq(1, Others)],
    [Owner ! {py_stream, Ref, {data, N}} || N <- lists:seq(1, Events)],
    run(Owner),
    {Owner, Ref, py_mailbox:new(Owner, Ref)}.

%% Takes nothing but what the next two send.
owner() ->
    receive
        {run, From} ->
            From ! {ran, self()},
            owner();
        stop ->
            ok
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
